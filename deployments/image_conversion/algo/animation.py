"""What animations of one format need to be told in another."""

from collections.abc import Sequence

from PIL import Image

GIF_STEP_MS = 10
"""GIF counts time in hundredths of a second."""

_TRANSPARENT = 255  # the palette's last entry
_HALF_OPAQUE = 128  # of 256


def times_played(image_format: str, loop: int | None) -> int:
    """Tell how often an animation plays, 0 for ever, from what its file says.

    A GIF counts how often it is *repeated*, and says nothing to play once; this is how gif2webp
    of libwebp reads it. WebP and PNG count how often it is played. AVIF files are read as
    repeating for ever, since Pillow does not say.
    """
    if image_format == "GIF":
        return 1 if loop is None else loop + 1 if loop else 0
    return loop or 0


def gif_loop(plays: int) -> int | None:
    """Return what a GIF says to be played so often; None to say nothing."""
    return plays - 1 if plays > 1 else None if plays == 1 else 0


def rounded_times(durations_ms: Sequence[float], step_ms: int) -> list[int]:
    """Round durations to a step so that their sums, where each frame begins, stay right."""
    rounded: list[int] = []
    end_ms, shown_ms = 0.0, 0
    for duration_ms in durations_ms:
        end_ms += duration_ms
        rounded.append(round(end_ms / step_ms) * step_ms - shown_ms)
        shown_ms += rounded[-1]
    return rounded


def to_palette(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Bring an RGBA image to a palette as GIF has it: 255 colours and full transparency.

    Parts that are less than half opaque become transparent; the others show ``background`` (RGB)
    through.
    """
    flat = Image.new("RGBA", image.size, (*background, 255))
    flat.alpha_composite(image)
    indexed = flat.convert("RGB").quantize(_TRANSPARENT)
    clear = image.getchannel("A").point([255] * _HALF_OPAQUE + [0] * _HALF_OPAQUE)
    indexed.paste(_TRANSPARENT, mask=clear)
    indexed.info["transparency"] = _TRANSPARENT
    return indexed
