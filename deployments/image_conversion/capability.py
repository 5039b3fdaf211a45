"""The image conversion capability: reads once, fits what the format can hold, writes."""

import io
from collections.abc import Sequence
from itertools import islice
from typing import Never

from PIL import Image

from deployments.image_conversion.algo.animation import times_played
from deployments.image_conversion.algo.metadata import Metadata, read_metadata
from deployments.image_conversion.algo.pixels import best_mode, common_mode, simplify, to_mode
from deployments.image_conversion.algo.profiles import fit_profile
from deployments.image_conversion.algo.targets import TARGETS, Target
from deployments.image_conversion.algo.write import Pictures, write
from deployments.image_conversion.schema import ConvertedImage, ImageConversionParams
from deployments.runtime.asset import Asset
from deployments.runtime.capability import Capability, Work
from deployments.runtime.errors import ClServeError, TooLargeError, UnsupportedMediaError
from deployments.runtime.picture import Picture
from deployments.runtime.task import current_task
from deployments.runtime.types import Media

MAX_ANIMATION_PIXELS = 50_000_000
"""Of all frames together, since writers take all at once: 200 MB, and as much again while a PNG
is written. That is 380 frames of 480 x 270."""

MAX_FRAMES = 3000
"""A minute at 50 frames per second; a frame of one pixel takes a kilobyte too."""


class ImageConversion(Capability[ImageConversionParams, ConvertedImage]):
    """Writes a picture in another format."""

    name = "image_conversion"
    summary = (
        "A picture or animation in another format: png, jpg, webp, gif, bmp, tiff, avif, heic."
    )
    inputs = (Asset,)
    params = ImageConversionParams
    result = ConvertedImage

    def prepare(self, inputs: tuple[Asset], params: ImageConversionParams) -> Work:
        """Do all of it."""
        (asset,) = inputs
        target = TARGETS[params.format]
        picture = asset.picture
        _check_limits(asset.name, picture, target)
        pictures = _read(picture, target, params)
        width, height = pictures.images[0].size
        try:
            data = write(
                pictures,
                target,
                quality=params.quality,
                lossless=params.lossless,
                background=params.background_rgb,
                threads=self.settings.num_threads,
            )
        except (MemoryError, ClServeError):
            raise
        except Exception as error:  # writers raise anything on what a format can't hold
            words = " ".join(str(error).split()) or type(error).__name__
            raise UnsupportedMediaError(
                f"{asset.name} can't be written as {target.name}: {words}"
            ) from error
        stem = asset.stem if asset.filename else "converted"
        # Writers join frames that look the same, so the file is asked.
        count = Picture(Media(data)).frame_count if len(pictures.images) > 1 else 1
        result = ConvertedImage(
            data, target.media_type, stem + target.extension, width, height, count
        )
        return Work((), result)

    def finish(self, work: Work, parts: Sequence[Never]) -> ConvertedImage:  # noqa: ARG002 - no units
        """Return what ``prepare`` made."""
        return work.state

    def sample_params(self) -> ImageConversionParams:
        """Return parameters for a self-test: from PNG to PNG."""
        return ImageConversionParams(format="png")

    def sample(self) -> tuple[Asset]:
        """Return a small grey picture."""
        buffer = io.BytesIO()
        Image.linear_gradient("L").save(buffer, "PNG")
        return (Asset(Media(buffer.getvalue(), "sample.png")),)


def _check_limits(name: str, picture: Picture, target: Target) -> None:
    width, height = picture.size
    if max(width, height) > target.max_side_px:
        raise TooLargeError(
            f"{name} has {width}x{height} pixels; "
            f"a side of a {target.name} has {target.max_side_px} at most",
        )
    if width * height > target.max_pixels:
        raise TooLargeError(
            f"{name} has {width}x{height} = {width * height} pixels; "
            f"the limit for {target.name} is {target.max_pixels}",
        )
    frames = picture.frame_count if target.animated else 1
    if frames > 1 and (frames > MAX_FRAMES or frames * width * height > MAX_ANIMATION_PIXELS):
        raise TooLargeError(
            f"{name} has {frames} frames of {width}x{height} pixels; the limits for an animation "
            f"are {MAX_FRAMES} frames and {MAX_ANIMATION_PIXELS} pixels in all of them",
        )


def _read(picture: Picture, target: Target, params: ImageConversionParams) -> Pictures:
    """Read what is to be written, upright and in a mode of the target's."""
    images: list[Image.Image] = []
    durations_ms: list[float] = []
    plays, profile, metadata = 0, None, Metadata()
    count = picture.frame_count if target.animated else 1
    for frame in islice(picture.frames(), count):
        current_task().raise_if_cancelled()
        if not images:
            plays = times_played(picture.format, frame.info.get("loop"))
            if params.metadata == "keep" and target.has_metadata:
                metadata = read_metadata(frame, picture.size, turned=picture.is_turned)
        image = simplify(frame)
        mode = best_mode(image.mode, target.modes)
        image, profile = fit_profile(image, picture.icc_profile, mode, keeps=target.has_profile)
        image = picture.upright(to_mode(image, mode, params.background_rgb))
        # A copy, since the frames are one object. Those of a GIF may reach past its screen, where
        # browsers show nothing.
        images.append(image.crop((0, 0, *picture.size)))
        durations_ms.append(frame.info.get("duration", 0))
    mode = common_mode({image.mode for image in images})
    return Pictures(
        [to_mode(image, mode, params.background_rgb) for image in images],
        durations_ms,
        plays,
        profile,
        metadata,
    )
