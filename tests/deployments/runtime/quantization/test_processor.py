"""What is read from the processor's description."""

from pathlib import Path

import pytest

from deployments.runtime.quantization import this_processor

SKYLAKE = "processor : 0\nmodel name : Core i5\nflags : fpu avx2\n"
SAPPHIRE = "processor : 0\nmodel name : Xeon\nflags : fpu avx2 avx512_vnni amx_int8\n"
PI_4 = "processor : 0\nFeatures : fp asimd evtstrm crc32\nModel : Raspberry Pi 4 Model B\n"
PI_5 = "processor : 0\nFeatures : fp asimd asimddp\nModel : Raspberry Pi 5 Model B\n"
NOTHING = "no instructions for 8-bit products"


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "title", "signed", "seven_bits"),
    [
        ("", "x86_64", f"x86_64, unknown model, {NOTHING}", False, True),
        (SKYLAKE, "x86_64", f"x86_64, Core i5, {NOTHING}", False, True),
        (SAPPHIRE, "x86_64", "x86_64, Xeon, amx_int8 avx512_vnni", False, False),
        (PI_4, "aarch64", f"aarch64, Raspberry Pi 4 Model B, {NOTHING}", True, False),
        (PI_5, "aarch64", "aarch64, Raspberry Pi 5 Model B, asimddp", True, False),
    ],
)
def test_processors(  # noqa: PLR0913, PLR0917 - the table's columns
    tmp_path: Path,
    cpuinfo: str,
    machine: str,
    title: str,
    signed: bool,  # noqa: FBT001 - a column
    seven_bits: bool,  # noqa: FBT001 - a column
) -> None:
    """Signs and bits follow from the architecture and its instructions."""
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    found = this_processor(path, machine)
    assert (title, signed, seven_bits) == (
        found.title,
        found.signed_activations,
        found.seven_bit_weights,
    )


def test_this_machine() -> None:
    """The machine that runs the tests is described, whatever it is."""
    assert this_processor().title.partition(",")[0]
