"""The thumbnail capability. There is no model, so all is done in ``prepare``."""

import io
from collections.abc import Sequence

from PIL import Image

from deployments.media_thumbnail.algo.first_frame import first_frame
from deployments.media_thumbnail.algo.geometry import place
from deployments.media_thumbnail.algo.render import encode, scale, to_srgb
from deployments.media_thumbnail.schema import Format, MediaThumbnailParams, Thumbnail
from deployments.runtime import picture, video
from deployments.runtime.asset import Asset
from deployments.runtime.capability import Capability, Work
from deployments.runtime.errors import UnsupportedMediaError
from deployments.runtime.types import Media

_EXTENSIONS: dict[Format, str] = {"jpeg": "jpg", "webp": "webp", "avif": "avif"}


class MediaThumbnail(Capability[MediaThumbnailParams, Thumbnail]):
    """Makes a small picture of a photo or a video."""

    name = "media_thumbnail"
    summary = "A small picture of a photo or a video, upright and in sRGB."
    inputs = (Asset,)
    params = MediaThumbnailParams
    result = Thumbnail

    def prepare(self, inputs: tuple[Asset], params: MediaThumbnailParams) -> Work:
        """Make the thumbnail; there are no units.

        Raises:
            UnsupportedMediaError: neither a picture nor a video that can be read.
            CorruptMediaError: broken or cut off.
            TooLargeError: more pixels than the limit.
            InvalidParameterError: the video ends before ``timestamp_s``.

        """
        (asset,) = inputs
        mime = asset.media_type.mime
        if mime in picture.ACCEPTED_MIME_TYPES:
            image = _of_picture(asset.picture, params)
        elif mime in video.ACCEPTED_MIME_TYPES:
            image = _of_video(asset.video, params)
        else:
            accepted = sorted(picture.ACCEPTED_MIME_TYPES | video.ACCEPTED_MIME_TYPES)
            raise UnsupportedMediaError(
                f"{asset.name} looks like {mime}; accepted are {', '.join(accepted)}"
            )
        thumbnail = Thumbnail(
            data=encode(image, params.format, params.quality, self.settings.num_threads),
            media_type=f"image/{params.format}",
            filename=f"{asset.stem}-thumbnail.{_EXTENSIONS[params.format]}",
            width=image.width,
            height=image.height,
        )
        return Work((), thumbnail)

    def finish(self, work: Work, parts: Sequence[None]) -> Thumbnail:  # noqa: ARG002 - the contract's
        """Return what ``prepare`` made."""
        return work.state

    def sample(self) -> tuple[Asset]:
        """Return a small JPEG."""
        buffer = io.BytesIO()
        Image.linear_gradient("L").save(buffer, "jpeg")
        return (Asset(Media(buffer.getvalue(), "sample.jpg")),)


def _of_picture(source: picture.Picture, params: MediaThumbnailParams) -> Image.Image:
    placement = place(source.size, params.width, params.height, params.fit)
    # A JPEG is decoded at the smallest scale that has these pixels. Asking for twice as many
    # before scaling down would change 3 dB at 44 dB and up, and cost a quarter more time.
    needed_px = max(1, round(max(source.size) * min(1.0, placement.scale)))
    small = scale(source.rgb(needed_px), source.size, placement)
    # After scaling, where there are fewer pixels to convert.
    return to_srgb(small, source.icc_profile)


def _of_video(source: video.Video, params: MediaThumbnailParams) -> Image.Image:
    if params.timestamp_s is None:
        frame = first_frame(source)
    else:
        frame = source.frame_at(params.timestamp_s)
    placement = place(frame.size, params.width, params.height, params.fit)
    return scale(frame, frame.size, placement)
