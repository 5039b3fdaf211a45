"""What the Python API takes: sources, and the capabilities' own parameters."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deployments.runtime.capability import Capability, Params, installed_capabilities
from deployments.runtime.errors import UnknownOutputError
from deployments.runtime.types import Media, Upload

CapabilityType = type[Capability[Any, Any]]
Source = bytes | Path | str | Media | Upload
"""What to compute from: the encoded bytes of a photo or a video, the path of its file on this
machine, a text, or an ``Upload`` for a file on the nodes' own disk, several texts, or both."""


def name_of(output: CapabilityType | str) -> str:
    """Name the node of an output."""
    return output if isinstance(output, str) else output.name


def params_by_node(params: Iterable[Params]) -> dict[str, dict[str, Any]]:
    """Sort parameters by the node that takes them, as JSON, without those that were not given.

    Raises:
        UnknownOutputError: no capability takes parameters of such a class.

    """
    return {_owner(item): item.model_dump(mode="json", exclude_unset=True) for item in params}


def upload_of(source: Source) -> Upload:
    """Make what is sent of a source; a file is read into memory."""
    match source:
        case Upload():
            return source
        case str():
            return Upload(texts=(source,))
        case Path():
            return Upload(Media(source.read_bytes(), source.name))
        case Media():
            return Upload(source)
        case bytes():
            return Upload(Media(source))


def _owner(params: Params) -> str:
    """Name the node that takes these parameters: the capability whose class of them it is."""
    for name, capability in installed_capabilities().items():
        if isinstance(params, capability.params):
            return name
    raise UnknownOutputError(f"no capability takes {type(params).__name__}")
