"""Who works on jobs: the ingress replicas, which have the graph."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Protocol

from ray import serve
from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError

from deployments.runtime.errors import ClServeError, NodeUnavailableError, OverloadedError
from serve_app.calls import Progress
from serve_app.graph import INGRESS
from serve_app.jobs.job import JobWork, Outcome
from serve_app.remote_host import is_cut_off


class Worker(Protocol):
    """Anything that does an attempt at a job."""

    def run(self, work: JobWork) -> AsyncGenerator[Progress | Outcome, None]:
        """Yield progress, and the outcome at last; raises the work's ``ClServeError``."""
        ...


class RemoteWorker:
    """The ingress of the application that this replica belongs to."""

    def __init__(self) -> None:
        """Ask for no handle yet: the ingress starts after this deployment."""
        self._handle: Any = None

    async def run(self, work: JobWork) -> AsyncGenerator[Progress | Outcome, None]:
        """Yield progress, and the outcome at last.

        When the generator is closed or cancelled, so is the work.

        Raises:
            NodeUnavailableError: the process that worked on it died.
            OverloadedError: too many requests wait for the ingress.
            ClServeError: what the work itself raises.

        """
        if self._handle is None:
            app = serve.get_replica_context().app_name
            handle = serve.get_deployment_handle(INGRESS, app)
            self._handle = handle.options(stream=True)
        response: Any = self._handle.work.remote(work)
        try:
            async for item in response:
                yield item
        except GeneratorExit:
            response.cancel()
            raise
        except BackPressureError as error:
            raise OverloadedError("too many requests wait for the ingress") from error
        except RayTaskError as error:
            if isinstance(error.cause, ClServeError):
                raise error.cause from None
            raise
        except (Exception, asyncio.CancelledError) as error:
            if not is_cut_off(error):
                response.cancel()
                raise
            raise NodeUnavailableError("the process that worked on it died") from error
