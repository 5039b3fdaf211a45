"""The typed Python API over Serve handles: the same graph as over HTTP, without HTTP.

    >>> from serve_app.handles import connect
    >>> from deployments.face_embedding import FaceEmbedding
    >>> client = connect()                                     # doctest: +SKIP
    >>> faces = client.run(FaceEmbedding, Path("photo.jpg"))   # doctest: +SKIP
    >>> faces.faces[0].embedding.shape                         # doctest: +SKIP
    (192,)

Results are the capabilities' own dataclasses, embeddings are float32 arrays, and failures are
the exceptions of ``deployments.runtime.errors``. ``client.jobs`` has what takes long done as
durable jobs.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import ray
from ray import serve
from ray._private import ray_constants
from ray._raylet import Config  # pyright: ignore[reportAttributeAccessIssue] - a C extension
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from deployments.runtime.capability import Capability, Params
from deployments.runtime.errors import StackError, UnknownOutputError
from serve_app.arguments import CapabilityType, Source, name_of, params_by_node, upload_of
from serve_app.graph import JOBS
from serve_app.jobs.client import Jobs
from serve_app.pipeline import Analysis
from serve_app.stack import Stack
from serve_app.stack.ray_runtime import is_loopback

ResultT = TypeVar("ResultT")


class Results(Mapping[str, Any]):
    """Results of one upload by node name; reading one that failed raises its error."""

    def __init__(self, analysis: Analysis) -> None:
        """Wrap what the pipeline returned."""
        self._analysis = analysis
        self.failures = analysis.failures
        self.elapsed_ms = analysis.elapsed_ms

    def of(self, capability: type[Capability[Any, ResultT]]) -> ResultT:
        """Return the typed result of a capability. Raises the node's error if it failed."""
        return self[capability.name]

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - the node's own result type
        """Return the result of the node of that name. Raises the node's error if it failed."""
        if name in self.failures:
            raise self.failures[name]
        return self._analysis.results[name]

    def __iter__(self) -> Iterator[str]:
        """Names of the nodes that succeeded."""
        return iter(self._analysis.results)

    def __len__(self) -> int:
        """Return the number of nodes that succeeded."""
        return len(self._analysis.results)


class Client:
    """Calls the graph. Each call has a synchronous and an ``async`` form (``…_async``).

    Parameters are the capabilities' own ``Params`` objects, in any order: each goes to the node
    whose parameters it is, so ``FaceDetectionParams(effort="thorough")`` may go along with a
    request for embeddings.
    """

    def __init__(self, handle: DeploymentHandle, app_name: str) -> None:
        """Wrap the handle of the ingress of the application of that name."""
        self._handle = handle
        self._app_name = app_name

    @cached_property
    def jobs(self) -> Jobs:
        """Durable jobs. Raises ``StackError`` when the graph has none."""
        try:
            return Jobs(serve.get_deployment_handle(JOBS, self._app_name))
        except KeyError as error:
            raise StackError(
                "this graph has no jobs; add `jobs: {}` to the args of its YAML file, then "
                "`cl-serve deploy` it",
            ) from error

    def run(
        self,
        capability: type[Capability[Any, ResultT]],
        source: Source,
        *params: Params,
        timeout_s: float | None = None,
    ) -> ResultT:
        """Compute one result. Raises a ``ClServeError`` when it can't be computed."""
        return self.analyze(source, [capability], *params, timeout_s=timeout_s).of(capability)

    async def run_async(
        self,
        capability: type[Capability[Any, ResultT]],
        source: Source,
        *params: Params,
        timeout_s: float | None = None,
    ) -> ResultT:
        """Compute one result. Raises a ``ClServeError`` when it can't be computed."""
        results = await self.analyze_async(source, [capability], *params, timeout_s=timeout_s)
        return results.of(capability)

    def analyze(
        self,
        source: Source,
        outputs: Sequence[CapabilityType | str],
        *params: Params,
        timeout_s: float | None = None,
    ) -> Results:
        """Compute several results of one upload; the work that they share is done once."""
        response = self._send(source, outputs, params, timeout_s)
        return Results(response.result())

    async def analyze_async(
        self,
        source: Source,
        outputs: Sequence[CapabilityType | str],
        *params: Params,
        timeout_s: float | None = None,
    ) -> Results:
        """Compute several results of one upload; the work that they share is done once."""
        return Results(await self._send(source, outputs, params, timeout_s))

    def _send(
        self,
        source: Source,
        outputs: Sequence[CapabilityType | str],
        params: Sequence[Params],
        timeout_s: float | None,
    ) -> DeploymentResponse[Analysis]:
        names = [name_of(output) for output in outputs]
        if not names:
            raise UnknownOutputError("name at least one output")
        call: Any = self._handle.analyze  # Serve's own types leave open whether it streams
        return call.remote(upload_of(source), names, params_by_node(params), timeout_s)


def connect(stack: Stack | str | None = None, app_name: str = "cl-ml-serve") -> Client:
    """Connect to a running graph, as a Ray driver of this process.

    Args:
        stack: the stack of this machine, by default that of ``cl-serve up``; or the address
            ``host:port`` of a Ray cluster, whose secret Ray takes from its own environment
            variables.
        app_name: the application's name in the YAML.

    Raises:
        StackError: nothing runs here, or the application is not there.

    """
    join_cluster(stack or Stack())
    try:
        return Client(serve.get_app_handle(app_name), app_name)
    except RayServeException as error:
        raise StackError(f"the cluster has no application {app_name!r}: {error}") from error


def join_cluster(stack: Stack | str) -> None:
    """Connect this process to the Ray cluster of a stack, or at an address, if it isn't yet.

    Raises:
        StackError: nothing runs here.

    """
    if not ray.is_initialized():
        ray.init(
            address=stack if isinstance(stack, str) else _prepared(stack),
            namespace="serve",
            log_to_driver=False,
            logging_level=logging.WARNING,
        )


def _prepared(stack: Stack) -> str:
    """Let Ray in this process show the stack's secret; return the stack's address."""
    running = stack.require_running()
    os.environ.update(running.ray_environment)
    if is_loopback(running.address):
        # As LOOPBACK_ENVIRONMENT: this process is at the same address as the cluster. Ray has
        # read that variable when it was imported.
        ray_constants.ENABLE_RAY_CLUSTER = False
    Config.initialize("")  # Ray reads its environment when it is imported; this reads it again
    return running.ray_address
