"""Which qualities of a video are made, and how large each is."""

from collections.abc import Sequence
from dataclasses import dataclass

_MIN_SIDE_PX = 16  # a macroblock of H.264; hardware decoders take nothing smaller


@dataclass(frozen=True, slots=True)
class Rung:
    """One quality to encode: size in pixels, both even, and the most that it may take."""

    name: str
    width: int
    height: int
    max_kbits: int


def ladder(width: int, height: int, wanted: Sequence[tuple[int, int]]) -> list[Rung]:
    """Choose what is made of a video, the largest first.

    Args:
        width: of the video in pixels, upright.
        height: of the video in pixels, upright.
        wanted: (shorter side in pixels, kbit/s), at least one.

    Returns:
        Those that are not larger than the video. If all are, one of the video's own size with
        the least of the bit rates.

    """
    short_px = min(width, height)
    fitting = [(side, kbits) for side, kbits in wanted if side <= short_px]
    if not fitting:
        fitting = [(short_px, min(kbits for _, kbits in wanted))]
    return [
        Rung(
            f"{side}p_{kbits}k",
            _even(width * side / short_px, width),
            _even(height * side / short_px, height),
            kbits,
        )
        for side, kbits in sorted(fitting, reverse=True)
    ]


def _even(wanted_px: float, source_px: int) -> int:
    """Return the nearest even number that is not above the source's, nor too small to decode."""
    return max(_MIN_SIDE_PX, min(round(wanted_px / 2), source_px // 2) * 2)
