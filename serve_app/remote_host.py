"""A host behind a Serve handle: its calls, what becomes of those cut off, and its sleep.

A call that met a dying replica or node is tried once more elsewhere, which is safe because
capabilities have no side effects. What Serve and gRPC raise then depends on the moment and on
the transport; what a host itself raises comes back as ``RayTaskError`` and is not tried again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.runtime.errors import NodeUnavailableError, OverloadedError
from serve_app.calls import NodeHealth, ProgressListener, SegmentCall, SegmentReply

logger = logging.getLogger("ray.serve")

ATTEMPTS = 2
"""Tries of one hop: the second goes to another replica, or waits for the restarted one."""


class RemoteHost:
    """A ``Host`` behind a Serve handle."""

    def __init__(self, name: str, handle: DeploymentHandle) -> None:
        """Keep the handle, with a preference for replicas on this machine.

        ``name`` is the deployment's, for messages.
        """
        handle._init(_prefer_local_routing=True)  # noqa: SLF001 - Serve offers it in no other way
        # Plain data of importable classes: Serve's own choice can pickle more, and takes longer.
        handle = handle.options(request_serialization="pickle", response_serialization="pickle")
        self._name = name
        self._run = handle.options(method_name="run")
        self._run_with_progress = handle.options(method_name="run_with_progress", stream=True)
        self._self_test = handle.options(method_name="self_test")

    async def run(
        self,
        call: SegmentCall,
        on_progress: ProgressListener | None = None,
    ) -> SegmentReply:
        """Run one segment on a replica; when the caller is cancelled, so is the call.

        Raises:
            OverloadedError: too many requests wait for the deployment.
            NodeUnavailableError: no replica could answer.

        """
        if on_progress is None:
            return await self._try(lambda: self._call(self._run, call))
        return await self._try(lambda: self._stream(call, on_progress))

    async def self_test(self, name: str) -> NodeHealth:
        """Test one node on a replica."""
        return await self._try(lambda: self._call(self._self_test, name))

    async def _call(self, method: DeploymentHandle, argument: object) -> Any:  # noqa: ANN401 - the method's own type
        response: Any = method.remote(argument)
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise

    async def _stream(self, call: SegmentCall, on_progress: ProgressListener) -> SegmentReply:
        response: Any = self._run_with_progress.remote(call)
        try:
            async for item in response:
                if isinstance(item, SegmentReply):
                    return item
                on_progress(item)
        except asyncio.CancelledError:
            response.cancel()
            raise
        raise NodeUnavailableError(f"{self._name} ended without an answer; try again shortly")

    async def _try(self, attempt: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - its own type
        for number in range(1, ATTEMPTS + 1):
            try:
                return await attempt()
            except BackPressureError as error:
                raise OverloadedError(
                    f"too many requests are waiting for {self._name}; try again shortly",
                ) from error
            except (Exception, asyncio.CancelledError) as error:
                if not is_cut_off(error):
                    raise
                logger.warning(
                    "%s: attempt %d failed: %s",
                    self._name,
                    number,
                    repr(error),
                    extra={"host": self._name},
                )
        raise NodeUnavailableError(f"no replica of {self._name} could answer; try again shortly")


def is_cut_off(error: BaseException) -> bool:
    """Tell whether a call failed on its way, or with its replica or node, and not by its host."""
    match error:
        case RayTaskError():
            return False
        case RayError() | RayServeException() | grpc.RpcError():
            return True
        case asyncio.CancelledError():
            # A replica that is being stopped cancels its calls, and gRPC hands that on as if this
            # task had been cancelled; whether it was, the task itself knows.
            task = asyncio.current_task()
            return task is not None and not task.cancelling()
        case RuntimeError():
            return str(error).startswith(_NO_METADATA)
    return False


_NO_METADATA = "Unexpected error (StatusCode."
"""How Serve's ``replica_result.py`` reports a stream that ended before its first metadata."""
