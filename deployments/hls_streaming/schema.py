"""Parameters and result of HLS streaming."""

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from deployments.runtime.capability import Params

MAX_VARIANTS = 8
"""Encoders that run at once, each with frames in memory; Apple's authoring specification for HLS
lists nine sizes from a 234p cellular to a 2160p one."""

_PAIR = re.compile(r"\s*(\d+):(\d+)\s*")


class Variant(BaseModel):
    """One quality that is asked for.

    ``resolution`` is the shorter side in pixels, the 720 of 720p, so that portrait videos come
    out as large as landscape ones. ``bitrate`` is the most that the picture may take, in kbit/s.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: int = Field(ge=16, le=4320)
    bitrate: int = Field(ge=50, le=100_000)


DEFAULT_VARIANTS = (
    Variant(resolution=720, bitrate=3500),
    Variant(resolution=480, bitrate=1500),
    Variant(resolution=240, bitrate=800),
)


class HlsStreamingParams(Params):
    """What one request may ask for."""

    variants: tuple[Variant, ...] = Field(
        default=DEFAULT_VARIANTS,
        description=(
            f"Up to {MAX_VARIANTS} qualities as RESOLUTION:KBITS,… or as a JSON list of "
            "{resolution, bitrate}; 720:3500,480:1500,240:800 when not given. The resolution is "
            "the shorter side. Those larger than the video are left out."
        ),
    )
    include_original: bool = Field(
        default=False,
        description=(
            "Also offer the video as it is, not encoded again. Left out with a note if browsers "
            "could not play it."
        ),
    )
    segment_s: float = Field(
        default=6.0,  # the target duration in Apple's authoring specification for HLS
        ge=1.0,
        le=60.0,
        description="Length of a segment in seconds.",
    )
    output_folder: str | None = Field(
        default=None,
        description=(
            "Absolute path of a new or empty folder to write to, below a folder that the YAML "
            "allows; without it, the service keeps the files for some time."
        ),
    )

    @field_validator("variants", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:  # noqa: ANN401 - a validator sees whatever was passed
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError as error:
                raise ValueError(f"not a JSON list: {error}") from error
        pairs = [_PAIR.fullmatch(part) for part in value.split(",")]
        if not all(pairs):
            raise ValueError(f"expected RESOLUTION:KBITS,… as in 720:3500,480:1500; got {value!r}")
        return [{"resolution": pair[1], "bitrate": pair[2]} for pair in pairs if pair]

    @field_validator("variants")
    @classmethod
    def _are_some(cls, value: tuple[Variant, ...]) -> tuple[Variant, ...]:
        if not 1 <= len(set(value)) == len(value) <= MAX_VARIANTS:
            raise ValueError(f"expected 1 to {MAX_VARIANTS} different variants, got {len(value)}")
        return value


@dataclass(frozen=True, slots=True)
class HlsVariant:
    """One quality of a stream.

    Sizes are in pixels, bit rates in bits per second as measured, sound included:
    ``peak_bit_rate`` over about the length of a segment, ``average_bit_rate`` over the whole.
    ``codecs`` are RFC 6381's names. ``playlist`` is beside the master playlist.
    """

    name: str
    width: int
    height: int
    frame_rate: float
    peak_bit_rate: int
    average_bit_rate: int
    codecs: str
    playlist: str
    segments: int


@dataclass(frozen=True, slots=True)
class HlsStream:
    """A video as an HLS stream.

    ``master_playlist`` is where a player begins: below ``/v1/`` of the service; the absolute path
    when ``output_folder`` was given; or, for a job without one, the name in the folder that the
    job chose. ``output_id`` is None in the last two cases. ``variants`` go from the
    lowest bit rate to the highest. ``include_original`` tells whether the video as it is is among
    them; ``notes`` say what of the request was left out and why.
    """

    output_id: str | None
    master_playlist: str
    variants: tuple[HlsVariant, ...]
    variants_generated: int
    total_segments: int
    duration_s: float
    include_original: bool
    notes: tuple[str, ...]
