"""The pipeline over hosts: sleep, cold starts, and which failures are tried again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OwnerDiedError,
    RayTaskError,
    RpcError,
)
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)

from deployments.runtime.errors import ClServeError, NodeUnavailableError, OverloadedError
from deployments.runtime.types import Media, Upload
from serve_app.calls import NodeHealth, Progress, ProgressListener, SegmentCall, SegmentReply
from serve_app.config import Limits
from serve_app.host import Host
from serve_app.http.routes import cold_start_header
from serve_app.pipeline import Pipeline
from serve_app.remote_host import RemoteHost, is_cut_off
from serve_app.replicas import sleepers, sleepers_in
from tests.serve_app.fake import WordList, make_graph, make_settings

GRAPH = make_graph()


class Replica:
    """A host behind a handle: fails as told before it answers."""

    def __init__(self, *failures: BaseException) -> None:
        """Keep what is raised, one for each call."""
        self.failures = list(failures)
        self.tests = 0
        self.host = Host([(GRAPH["words"], make_settings())])

    def _init(self, *, _prefer_local_routing: bool) -> None:
        """Take the options that a handle takes before its first call."""

    def remote(self, argument: Any) -> "Response":  # noqa: ANN401 - as a handle takes it
        """Begin a call, as a handle does."""
        return Response(self._answer(argument))

    async def _answer(self, argument: Any) -> SegmentReply | NodeHealth:  # noqa: ANN401 - as above
        if self.failures:
            raise self.failures.pop(0)
        if isinstance(argument, SegmentCall):
            return await self.host.run(argument)
        self.tests += 1
        return await self.host.self_test(argument)

    def options(self, *, stream: bool = False, **_given: str) -> "Replica | Streaming":
        """Choose a method, or how calls travel, as of a handle."""
        return Streaming(self) if stream else self


class Streaming:
    """The streaming method of a handle."""

    def __init__(self, replica: Replica) -> None:
        """Keep whose it is."""
        self._replica = replica

    async def remote(self, call: SegmentCall) -> AsyncIterator[Progress | SegmentReply]:
        """Stream the progress, then fail or answer."""
        yield Progress("words", 50)
        if self._replica.failures:
            raise self._replica.failures.pop(0)
        yield await self._replica.host.run(call)


class Response:
    """What a handle gives back."""

    def __init__(self, answer: Any) -> None:  # noqa: ANN401 - a coroutine
        """Keep the work."""
        self._answer = answer

    def __await__(self) -> Any:  # noqa: ANN401 - a generator
        """Do it."""
        return self._answer.__await__()

    def cancel(self) -> None:
        """Nothing is left to cancel."""


def words_call() -> SegmentCall:
    """Make a call to the node ``words``."""
    (segment,) = GRAPH.plan(["words"])
    return SegmentCall(segment, Upload(Media(b"a b")), {}, {})


LOST = [
    ActorUnavailableError("gone", None),
    ActorDiedError(),
    NodeDiedError("cut off"),
    OwnerDiedError("ref", None, ""),
    RpcError("reset"),
    grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata()),
    DeploymentUnavailableError(DeploymentID("words", "app")),
    ReplicaUnavailableError("no replica"),
    RequestCancelledError("id"),
    asyncio.CancelledError(),
    RuntimeError("Unexpected error (StatusCode.UNAVAILABLE): Socket closed."),
]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
async def test_lost_call_is_tried_again(error: BaseException) -> None:
    """Whatever Serve raises for a replica that is gone, the second try answers."""
    reply = await RemoteHost("words", Replica(error)).run(words_call())  # pyright: ignore[reportArgumentType] - stands for a handle
    assert reply.results == {"words": WordList(("a", "b"))}


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
async def test_lost_twice_is_unavailable(error: BaseException) -> None:
    """After the second try the caller is told to come back, whatever was raised."""
    host = RemoteHost("words", Replica(error, error))  # pyright: ignore[reportArgumentType] - as above
    with pytest.raises(NodeUnavailableError, match="no replica of words could answer"):
        await host.run(words_call())


async def test_lost_stream_is_tried_again() -> None:
    """A stream that is cut off begins again; its progress is told again."""
    progress: list[Progress] = []
    host = RemoteHost("words", Replica(ActorDiedError()))  # pyright: ignore[reportArgumentType] - as above
    reply = await host.run(words_call(), progress.append)
    assert reply.results == {"words": WordList(("a", "b"))}
    assert progress == [Progress("words", 50)] * 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BackPressureError(1, 1), OverloadedError),
        (RayTaskError("run", "trace", ValueError("ours")).as_instanceof_cause(), ValueError),
        (RuntimeError("a bug"), RuntimeError),
        (KeyError("a bug"), KeyError),
    ],
)
async def test_not_tried_again(error: Exception, expected: type[Exception]) -> None:
    """A host's own failure, and a refusal, would only come again."""
    replica = Replica(error)
    with pytest.raises(expected):
        await RemoteHost("words", replica).run(words_call())  # pyright: ignore[reportArgumentType] - as above


async def test_own_cancellation_is_no_lost_call() -> None:
    """A request whose client went away ends, and is not tried again."""

    async def wait() -> bool:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            return is_cut_off(error)
        return True

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    assert not await task


class Started:
    """A host that had to be started: the call waited longer than it has been up."""

    def __init__(self, host_age_ms: float) -> None:
        """Keep its age."""
        self._host_age_ms = host_age_ms

    async def run(
        self,
        call: SegmentCall,
        on_progress: ProgressListener | None = None,
    ) -> SegmentReply:
        """Answer after 20 ms."""
        await asyncio.sleep(0.02)
        results = dict.fromkeys(call.segment.exports, WordList(()))
        return SegmentReply(results, {}, 0.0, self._host_age_ms)

    async def self_test(self, name: str) -> NodeHealth:
        """Be ready."""
        return NodeHealth("ready")


@pytest.mark.parametrize(("host_age_ms", "expected"), [(1.0, {"words"}), (1e6, set())])
async def test_cold_start(host_age_ms: float, expected: set[str]) -> None:
    """A host that is younger than the call's wait was started for it."""
    pipeline = Pipeline(GRAPH, {"words": Started(host_age_ms)}, Limits())  # pyright: ignore[reportArgumentType] - stands for a remote host
    analysis = await pipeline.analyze(Upload(Media(b"a")), ["words"], {})
    assert expected == set(analysis.cold_starts)
    assert all(ms >= 19 for ms in analysis.cold_starts.values())


def test_cold_start_header() -> None:
    """The header names each host with what it cost; without a cold start there is none."""
    assert cold_start_header({}) == {}
    assert cold_start_header({"a": 5300.4, "b": 10.0}) == {"x-cold-start": "a;ms=5300, b;ms=10"}


async def test_failed_hop_is_a_failure_of_its_nodes() -> None:
    """A host that nobody can reach fails its nodes, and nothing else."""
    lost = RemoteHost("words", Replica(*LOST[:2]))  # pyright: ignore[reportArgumentType] - as above
    pipeline = Pipeline(GRAPH, {"words": lost}, Limits())
    analysis = await pipeline.analyze(Upload(Media(b"a")), ["words"], {})
    assert isinstance(analysis.failures["words"], NodeUnavailableError)
    assert isinstance(analysis.failures["words"], ClServeError)


async def test_sleeping_node_is_not_woken() -> None:
    """A sleeping node is idle without a call; awake it is tested once for each set of replicas."""
    asleep: dict[str, frozenset[str]] = {"words": frozenset()}
    replica = Replica()
    hosts = {
        "words": RemoteHost("words", replica),  # pyright: ignore[reportArgumentType] - as above
        "lengths": Host([(GRAPH["lengths"], make_settings())]),
    }
    pipeline = Pipeline(GRAPH, hosts, Limits(), lambda: asleep)
    health = await pipeline.health(5)
    assert [health["words"].state, health["lengths"].state, replica.tests] == ["idle", "ready", 0]
    for replicas, tests in [("r1", 1), ("r1", 1), ("r2", 2)]:
        asleep["words"] = frozenset([replicas])
        assert (await pipeline.health(5))["words"].state == "ready"
        assert tests == replica.tests


async def test_silent_controller() -> None:
    """When Serve does not say who sleeps, every node is tested as if none did."""

    def fail() -> dict[str, frozenset[str]]:
        raise ActorUnavailableError("controller", None)

    hosts = {name: Host([(GRAPH[name], make_settings())]) for name in GRAPH}
    health = await Pipeline(GRAPH, hosts, Limits(), fail).health(5)
    assert [found.state for found in health.values()] == ["ready", "ready"]


def deployment(status: str, autoscaling: dict[str, Any] | None, *states: str) -> dict[str, Any]:
    """Describe a deployment in the way of Serve's details."""
    replicas = [{"replica_id": f"r{i}", "state": state} for i, state in enumerate(states)]
    config = {"autoscaling_config": autoscaling}
    return {"status": status, "deployment_config": config, "replicas": replicas}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (deployment("HEALTHY", {"min_replicas": 0}), {"d": frozenset()}),
        (deployment("HEALTHY", {"min_replicas": 0}, "RUNNING"), {"d": frozenset(["r0"])}),
        (deployment("HEALTHY", {"min_replicas": 0}, "STOPPING"), {"d": frozenset()}),
        (deployment("UPSCALING", {"min_replicas": 0}, "STARTING"), {"d": frozenset()}),
        (deployment("DEPLOY_FAILED", {"min_replicas": 0}, "STARTING"), {}),
        (deployment("HEALTHY", {"min_replicas": 1}, "RUNNING"), {}),
        (deployment("HEALTHY", None, "RUNNING"), {}),
    ],
)
def test_sleepers(given: dict[str, Any], expected: dict[str, frozenset[str]]) -> None:
    """Only a deployment that may have no replica, and does not fail to start, is a sleeper."""
    assert sleepers_in({"applications": {"app": {"deployments": {"d": given}}}}, "app") == expected
    assert sleepers_in({"applications": {"other": {}}}, "app") == {}


def test_no_sleepers_outside_of_a_replica() -> None:
    """Without a cluster nothing sleeps."""
    assert sleepers() == {}
