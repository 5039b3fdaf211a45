"""One node inside a host: its capability, its threads and batcher, and one call of it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from deployments.runtime.capability import Capability, NodeSettings
from deployments.runtime.errors import InvalidParameterError, ModelError, ToolError
from deployments.runtime.task import Task, running
from serve_app.batching import Batcher
from serve_app.graph import Node
from serve_app.roots import Roots
from serve_app.validation import describe_validation_error

NodeWithSettings = tuple[Node, NodeSettings]
"""A node, and what its capability needs to know where it runs."""


@dataclass(slots=True)
class HostedNode:
    """A node in this process; ``failure`` is why it can't run, if so."""

    node: Node
    capability: Capability[Any, Any]
    batcher: Batcher
    threads: ThreadPoolExecutor
    defaults: dict[str, Any] = field(default_factory=dict)
    failure: ModelError | ToolError | None = None
    tried_at_s: float = 0.0

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - passes anything through
        """Run a function in one of the node's worker threads."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *args)

    def checked(self, params: Mapping[str, Any], *, complete: bool = True) -> Any:  # noqa: ANN401 - its Params class
        """Check parameters; those of the YAML need not be complete, since a request adds its own.

        Returns:
            The capability's ``Params``, or None where only completeness is missing.

        Raises:
            InvalidParameterError: one is unknown or wrong.

        """
        try:
            return self.capability.params.model_validate(params)
        except ValidationError as error:
            lines = tuple(
                describe_validation_error(error, prefix=self.node.name, complete=complete),
            )
            if lines:
                raise InvalidParameterError("; ".join(lines)) from error
            return None


@dataclass(frozen=True, slots=True)
class NodeCall:
    """One node's part in one request: its inputs, its parameters, and who watches its work."""

    inputs: Callable[[], tuple[Any, ...]]
    params: Mapping[str, Any]
    task: Task
    roots: Roots | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """In a worker thread: keep the roots open and make the task the current one."""
        with self.roots.use() if self.roots else nullcontext(), running(self.task):
            self.task.raise_if_cancelled()
            yield


def host_node(node: Node, settings: NodeSettings, shared: ThreadPoolExecutor) -> HostedNode:
    """Make a node's capability, and its threads where it wants its own; nothing is loaded."""
    capability = node.capability(settings)
    threads = shared
    if capability.own_threads:
        threads = ThreadPoolExecutor(capability.own_threads, thread_name_prefix=node.name)

    async def infer(units: Sequence[Any]) -> Sequence[Any]:
        return await asyncio.get_running_loop().run_in_executor(threads, capability.infer, units)

    return HostedNode(node, capability, Batcher(infer), threads)
