"""What this machine's processor can do with 8-bit numbers, which decides how INT8 is written.

ONNX Runtime's kernels for x86 multiply unsigned by signed bytes. Without VNNI the intermediate sums
are of 16 bits and saturate, unless weights keep to 7 bits. Its kernels for Arm take signed
bytes, and are fast with the dot-product instructions (``asimddp``), which a Cortex-A72 has not.
"""

import platform
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

_ARM = frozenset({"aarch64", "arm64"})
_VNNI = ("amx_int8", "avx512_vnni", "avx_vnni")
_DOT_PRODUCT = ("i8mm", "asimddp")


@dataclass(frozen=True, slots=True)
class Processor:
    """One processor.

    Attributes:
        title: for people: its name, and its instructions for 8-bit numbers.
        signed_activations: whether its kernels take signed activations.
        seven_bit_weights: whether weights must keep to 7 bits, lest sums saturate.

    """

    title: str
    signed_activations: bool
    seven_bit_weights: bool


def this_processor(cpuinfo: Path = CPUINFO, machine: str = "") -> Processor:
    """Describe the processor of this machine.

    Args:
        cpuinfo: Linux's description of it; where there is none, nothing special is assumed.
        machine: its architecture, as ``platform.machine`` has it, when empty this machine's.

    """
    machine = machine or platform.machine()
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    arm = machine in _ARM
    known = [flag for flag in (_DOT_PRODUCT if arm else _VNNI) if flag in flags]
    name = facts.get("model name") or facts.get("Model") or "unknown model"
    return Processor(
        title=f"{machine}, {name}, {' '.join(known) or 'no instructions for 8-bit products'}",
        signed_activations=arm,
        seven_bit_weights=not arm and not known,
    )
