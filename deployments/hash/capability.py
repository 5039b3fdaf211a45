"""The hash capability: whatever the file is, its bytes have a hash.

A backup wants that one of a broken photo too, so pixels that can't be read are a remark in the
result, not an error.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Never

from PIL import Image

from deployments.hash.algo.content import content_hash
from deployments.hash.algo.perceptual import PerceptualHashes, perceptual_hashes
from deployments.hash.schema import Hashes, HashParams
from deployments.runtime.asset import Asset
from deployments.runtime.capability import Capability, Work
from deployments.runtime.errors import CorruptMediaError, InputError, UnsupportedMediaError
from deployments.runtime.picture import Picture
from deployments.runtime.pixels import to_rgb
from deployments.runtime.task import current_task
from deployments.runtime.types import Media

MAX_PICTURES = 100
"""Of a video that many key frames are hashed, and of an animation that many frames, from its
start: a key frame in Full HD takes about 40 ms, so a long film 4 s, and not minutes."""

CHUNK_BYTES = 8 * 2**20
"""A file larger than this is never read as a whole, unless its picture is decoded."""


class Hash(Capability[HashParams, Hashes]):
    """Hashes the bytes of a file, and what it shows."""

    name = "hash"
    summary = "Hashes of a file's bytes, of what it shows whatever its metadata, and of its looks."
    inputs = (Asset,)
    params = HashParams
    result = Hashes

    def prepare(self, inputs: tuple[Asset], params: HashParams) -> Work:
        """Do all of it."""
        (asset,) = inputs
        looks: PerceptualHashes | None = None
        content: str | None = None
        problem: str | None = None
        is_image = asset.media_type.kind == "image"
        try:
            if params.perceptual and is_image:
                # At the scale that others who look at the photo share; the hashes need no more.
                looks = perceptual_hashes(asset.picture.rgb(1))
            if params.content:
                content = content_hash(_pictures(asset))
        except InputError as error:
            problem = str(error)
        in_memory = asset.size_bytes <= CHUNK_BYTES or (
            is_image and problem is None and (params.perceptual or params.content)
        )
        hashes = Hashes(
            hash_value=_bytes_hash(asset, params.algorithm, in_memory=in_memory),
            algorithm=params.algorithm,
            media_type=asset.media_type.mime,
            size_bytes=asset.size_bytes,
            phash=looks.phash if looks else None,
            dhash=looks.dhash if looks else None,
            content_hash=content,
            problem=problem,
        )
        return Work((), hashes)

    def finish(self, work: Work, parts: Sequence[Never]) -> Hashes:  # noqa: ARG002 - no units
        """Return what ``prepare`` made."""
        return work.state

    def sample(self) -> tuple[Asset]:
        """Return a small grey picture."""
        buffer = io.BytesIO()
        Image.linear_gradient("L").save(buffer, "PNG")
        return (Asset(Media(buffer.getvalue(), "sample.png")),)


def _bytes_hash(asset: Asset, algorithm: str, *, in_memory: bool) -> str:
    # usedforsecurity: systems in FIPS mode refuse md5 otherwise.
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    if in_memory:
        hasher.update(asset.data)
    else:
        with asset.path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                hasher.update(chunk)
    return hasher.hexdigest()


def _pictures(asset: Asset) -> Iterator[tuple[int, Image.Image]]:
    """Yield time in ms and picture, RGB and upright: what a content hash is made of.

    Raises:
        InputError: neither image nor video, or it can't be read.
        CancelledRequestError: nobody waits any more.

    """
    if asset.media_type.kind == "image":
        return _frames(asset.picture)
    if asset.media_type.kind == "video":
        return _key_frames(asset)
    raise UnsupportedMediaError(
        f"{asset.name} looks like {asset.media_type.mime}; images and videos have a content hash",
    )


def _frames(picture: Picture) -> Iterator[tuple[int, Image.Image]]:
    if picture.frame_count == 1:
        yield 0, picture.rgb()
        return
    time_ms = 0.0
    for frame in islice(picture.frames(), MAX_PICTURES):
        current_task().raise_if_cancelled()
        yield round(time_ms), picture.upright(to_rgb(frame))
        time_ms += frame.info.get("duration", 0)


def _key_frames(asset: Asset) -> Iterator[tuple[int, Image.Image]]:
    empty = True
    for time_s, picture in islice(asset.video.key_frames(), MAX_PICTURES):
        empty = False
        yield round(time_s * 1000), picture
    if empty:
        raise CorruptMediaError(f"{asset.name} has no key frame that can be decoded")
