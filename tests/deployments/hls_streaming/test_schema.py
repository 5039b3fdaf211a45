"""What a request may ask for."""

from typing import Any

import pytest
from pydantic import ValidationError

from deployments.hls_streaming import HlsStreamingParams, Variant

TWO = (Variant(resolution=720, bitrate=3500), Variant(resolution=480, bitrate=1500))


@pytest.mark.parametrize(
    "value",
    [
        "720:3500,480:1500",
        " 720:3500 , 480:1500 ",
        '[{"resolution": 720, "bitrate": 3500}, {"resolution": 480, "bitrate": 1500}]',
        '[{"resolution": "720", "bitrate": "3500"}, {"resolution": "480", "bitrate": "1500"}]',
        [{"resolution": 720, "bitrate": 3500}, {"resolution": 480, "bitrate": 1500}],
        TWO,
    ],
)
def test_variants(value: Any) -> None:  # noqa: ANN401 - of several types
    """Variants can be given for a query, as JSON, and as objects."""
    assert TWO == HlsStreamingParams(variants=value).variants


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variants": ""}, "expected RESOLUTION:KBITS"),
        ({"variants": "720"}, "expected RESOLUTION:KBITS"),
        ({"variants": "720:3500,"}, "expected RESOLUTION:KBITS"),
        ({"variants": "720x3500"}, "expected RESOLUTION:KBITS"),
        ({"variants": "-720:3500"}, "expected RESOLUTION:KBITS"),
        ({"variants": "[720"}, "not a JSON list"),
        ({"variants": "[]"}, "expected 1 to 8 different variants"),
        ({"variants": "[1]"}, "valid dictionary"),
        ({"variants": '[{"resolution": 720}]'}, "Field required"),
        ({"variants": '[{"resolution": 720, "bitrate": 1000, "codec": "av1"}]'}, "Extra inputs"),
        ({"variants": "720:3500,720:3500"}, "expected 1 to 8 different variants"),
        ({"variants": ",".join(f"{side}:500" for side in range(100, 109))}, "got 9"),
        ({"variants": "15:500"}, "greater than or equal to 16"),
        ({"variants": "4321:500"}, "less than or equal to 4320"),
        ({"variants": "720:49"}, "greater than or equal to 50"),
        ({"variants": "720:100001"}, "less than or equal to 100000"),
        ({"segment_s": 0.5}, "greater than or equal to 1"),
        ({"segment_s": 61}, "less than or equal to 60"),
        ({"segment_s": "nan"}, "less than or equal to 60"),
        ({"codec": "av1"}, "Extra inputs"),
    ],
)
def test_bad_parameters(fields: dict[str, Any], message: str) -> None:
    """What can't be made is refused with what is expected."""
    with pytest.raises(ValidationError, match=message):
        HlsStreamingParams(**fields)
