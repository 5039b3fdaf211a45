"""A thumbnail of a 12-megapixel JPEG, against plain Pillow without its scaled decode.

``reducing_gap=None`` is Pillow's own way to say so: ``thumbnail`` then decodes the whole picture
and scales all of its pixels. Without ``reducing_gap`` but after ``load`` it scales in two steps,
which takes about a third less time; decoding alone is most of that.
"""

import io

from PIL import Image

from benchmarks.capabilities.ratio import Ratio, alternate
from benchmarks.load.child import Window
from deployments.media_thumbnail import MediaThumbnail, MediaThumbnailParams
from deployments.runtime.asset import Asset
from deployments.runtime.capability import NodeSettings
from deployments.runtime.models import ModelStore
from deployments.runtime.types import Media

LONG_SIDE_PX = 512


def compare(_window: Window, store: ModelStore, photo: bytes, rounds: int) -> Ratio:
    """Measure both in this process, one thread each."""
    capability = MediaThumbnail(NodeSettings(store))
    params = MediaThumbnailParams(width=LONG_SIDE_PX, height=LONG_SIDE_PX)

    def ours() -> None:
        asset = Asset(Media(photo))
        capability.run_batch([((asset,), params)])
        asset.close()

    def plain() -> None:
        with Image.open(io.BytesIO(photo)) as image:
            image.thumbnail((LONG_SIDE_PX, LONG_SIDE_PX), reducing_gap=None)
            image.save(io.BytesIO(), format="JPEG")

    ours_s, plain_s = alternate(ours, plain, rounds)
    return Ratio(
        "thumbnail, 12 megapixels to 512 px",
        "Pillow: open, thumbnail without draft, save",
        ours_s,
        plain_s,
        "at least",
        3.0,
    )
