"""Running a capability on a graph that is not installed, and watching what its model is given."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from deployments.runtime.capability import NodeSettings
from deployments.runtime.onnx_session import OnnxSession


@dataclass(frozen=True, slots=True)
class TrialSettings(NodeSettings):
    """Settings of a node whose model is ``file`` in place of the store's, on the CPU.

    ``seen`` collects the rows that the graph is given, each of its input without the batch.
    """

    file: Path | None = None
    seen: list[NDArray[Any]] = field(default_factory=list)

    def open_session(self, model: str) -> OnnxSession:
        """Load the graph; raises what ``NodeSettings.open_session`` raises."""
        path = self.file or self.store.path(model)
        return _WatchedSession(path, self.num_threads, self.seen)


class _WatchedSession(OnnxSession):
    def __init__(self, path: Path, num_threads: int, seen: list[NDArray[Any]]) -> None:
        super().__init__(path, provider="cpu", num_threads=num_threads)
        self._seen = seen

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        self._seen.extend(batch.copy())
        return super().run(batch)
