"""A decoded frame of a video as the picture that a person sees: turned, in shape, in colour.

Phones film in high dynamic range and turned by 90 degrees, and old cameras with pixels that are
no squares; players undo all of it, and so does this. Colours of high dynamic range are brought to
sRGB by a table that swscale makes once per process and curve, which takes it a second, and that
Pillow applies in milliseconds.
"""

from fractions import Fraction
from functools import cache
from typing import Any, cast

import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc
from PIL import Image, ImageFilter

_HD_HEIGHT_PX = 720
"""From here on, colours that the file does not describe are BT.709, as browsers take them."""
_UNSPECIFIED = 2  # of a colour matrix, ITU-T H.273

_HDR_CURVES = frozenset({ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67})
_TABLE_STEPS = 65  # the most that Pillow takes; with 33, some colours were 10 of 255 off

# Signs of (a, b, c, d) of a display matrix to what it does: the pixel at (x, y) is shown at
# (a x + c y, b x + d y).
_UPRIGHT = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
_DEGREES = {
    Image.Transpose.ROTATE_90: 90,
    Image.Transpose.ROTATE_180: 180,
    Image.Transpose.ROTATE_270: 270,
    Image.Transpose.TRANSPOSE: 90,
    Image.Transpose.TRANSVERSE: 270,
}
_SIDEWAYS = frozenset(turn for turn, degrees in _DEGREES.items() if degrees % 180)


def upright(frame: VideoFrame, pixel_aspect: Fraction | None) -> Image.Image:
    """Return the frame in RGB, sRGB where the frame describes its colours, as players show it.

    Args:
        frame: as decoded.
        pixel_aspect: width of a pixel by its height; None or 0 for square ones.

    """
    width, height = _shown_size(frame, pixel_aspect)
    matrix = frame.colorspace
    if matrix == _UNSPECIFIED and frame.height >= _HD_HEIGHT_PX:
        matrix = Colorspace.ITU709
    # One thread: a request must not take all cores of a small machine.
    shown = frame.reformat(width, height, format="rgb24", src_colorspace=matrix, threads=1)
    image = Image.fromarray(cast("np.ndarray[Any, Any]", shown.to_ndarray()))
    if frame.color_trc in _HDR_CURVES:
        image = image.filter(_to_srgb(frame.color_trc))
    turn = _turn(frame)
    return image if turn is None else image.transpose(turn)


def upright_size(frame: VideoFrame, pixel_aspect: Fraction | None) -> tuple[int, int]:
    """Return (width, height) in pixels of what ``upright`` returns."""
    width, height = _shown_size(frame, pixel_aspect)
    return (height, width) if _turn(frame) in _SIDEWAYS else (width, height)


def rotation_degrees(frame: VideoFrame) -> int:
    """How far players turn the frame counter-clockwise: 0, 90, 180 or 270; mirroring aside."""
    turn = _turn(frame)
    return 0 if turn is None else _DEGREES.get(turn, 0)


def _shown_size(frame: VideoFrame, pixel_aspect: Fraction | None) -> tuple[int, int]:
    """Size with square pixels, before it is turned: the height stays, as "576p" means it."""
    return max(1, round(frame.width * (pixel_aspect or 1))), frame.height


def _turn(frame: VideoFrame) -> Image.Transpose | None:
    side_data = cast("SideDataContainer", frame.side_data)
    if Type.DISPLAYMATRIX not in side_data:
        return None
    a, b, _, c, d = (
        int(sign)
        for sign in np.sign(np.frombuffer(bytes(side_data[Type.DISPLAYMATRIX]), np.int32)[:5])
    )
    return _UPRIGHT.get((a, b, c, d))


@cache
def _to_srgb(curve: int) -> ImageFilter.Color3DLUT:
    """Make the table from BT.2020 with a curve of high dynamic range to sRGB."""
    levels = np.linspace(0, 65535, _TABLE_STEPS).round().astype(np.uint16)
    blue, green, red = np.meshgrid(levels, levels, levels, indexing="ij")
    cube = np.stack([red, green, blue], axis=-1).reshape(_TABLE_STEPS, -1, 3)
    frame = VideoFrame.from_ndarray(cube, format="rgb48le")
    frame.color_trc, frame.color_primaries = curve, ColorPrimaries.BT2020
    srgb = frame.reformat(
        format="rgb48le",
        dst_color_trc=ColorTrc.IEC61966_2_1,
        dst_color_primaries=ColorPrimaries.BT709,
        threads=1,
    ).to_ndarray()
    return ImageFilter.Color3DLUT(_TABLE_STEPS, (srgb.reshape(-1) / 65535).astype(np.float32))
