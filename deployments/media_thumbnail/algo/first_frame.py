"""The frame that stands for a video: the first that is not black.

Films begin with black, or fade in from it. Key frames are looked at, since they can be decoded
alone; where all of them are black, as in a short clip that fades in and has but one, so is the
frame in the middle.
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import numpy as np
from PIL import Image

from deployments.runtime.errors import InputError
from deployments.runtime.video import Video

MAX_KEY_FRAMES = 8
"""Encoders write a key frame every 2 to 10 seconds, so these are the first 16 to 80 seconds. Eight
of a Full HD video take 0.15 s."""

# As FFmpeg's blackdetect has them by default (pix_th and pic_th). White letters on black, as in
# opening titles, are more than two per cent.
_DARK_LUMA = 0.10 * 255
_BLACK_SHARE = 0.98


def first_frame(video: Video) -> Image.Image:
    """Return the first frame that is not black, or the brightest of those looked at.

    Raises what ``Video.frame_at`` raises.
    """
    brightest: tuple[float, Image.Image] | None = None
    for frame in _candidates(video):
        luma = np.asarray(frame.convert("L"))
        if float((luma <= _DARK_LUMA).mean()) < _BLACK_SHARE:
            return frame
        brightness = float(luma.mean())
        if brightest is None or brightness > brightest[0]:
            brightest = brightness, frame
    return video.frame_at(0.0) if brightest is None else brightest[1]


def _candidates(video: Video) -> Iterator[Image.Image]:
    for _, frame in islice(video.key_frames(), MAX_KEY_FRAMES):
        yield frame
    with suppress(InputError):
        yield video.frame_at(video.info.duration_s / 2)
