"""One attempt at a job, done beside the pipeline: run the graph, and write what comes of it.

An ingress replica does this for the runner, so that a job shares the replicas and batches of all
other requests. Each attempt writes to a folder of its own, which nobody sees before the runner
says that this attempt is the one, so an attempt that dies in the middle leaves nothing to mend.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack
from dataclasses import replace

from deployments.hls_streaming import HlsStream
from deployments.runtime.asset import Asset
from deployments.runtime.errors import EmptyInputError
from deployments.runtime.file_store import FileStore
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.picture import DEFAULT_MAX_PIXELS
from deployments.runtime.types import Media, Upload
from serve_app.calls import Progress
from serve_app.http.problems import problem_body
from serve_app.jobs.job import ANALYZE, INPUT, JobRequest, JobWork, Outcome
from serve_app.jobs.results import Shaped, Source, output_folder, shape
from serve_app.pipeline import Analysis, Pipeline

_LAST_PERCENT = 99
"""Of progress; 100 is for the runner to say, when the job has ended."""


class JobWorker:
    """Does the work of jobs."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: FileStore,
        files: AllowedFolders = AllowedFolders(),  # noqa: B008 - immutable
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        """Keep who computes, where the files of jobs are, and what else of a disk may be read."""
        self._pipeline = pipeline
        self._store = store
        self._files = replace(files, store=store)
        self._max_pixels = max_pixels

    async def run(self, work: JobWork) -> AsyncGenerator[Progress | Outcome]:
        """Do one attempt; yield its progress in whole percent of all, and its outcome at last.

        When the generator is closed or cancelled, so is the work, and none of its files is written
        afterwards by this process. Otherwise the attempt's folder is its caller's.

        Raises:
            ClServeError: why the task failed, or the first of the outputs of an ``analyze`` job
                when all have.

        """
        news: asyncio.Queue[Progress | None] = asyncio.Queue()
        attempt = asyncio.create_task(self._attempt(work, _Overall(news.put_nowait)))
        attempt.add_done_callback(lambda _: news.put_nowait(None))
        try:
            while (progress := await news.get()) is not None:
                yield progress
            yield await attempt
        finally:
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)

    async def _attempt(self, work: JobWork, on_progress: "_Overall") -> Outcome:
        request = work.request
        media = _media(request)
        analysis = await self._pipeline.analyze(
            Upload(media, request.texts),
            request.outputs,
            request.node_params,
            on_progress=on_progress,
            destination=f"{_folder(work)}/{self._stream_folder(request)}",
        )
        if not analysis.results:
            raise next(iter(analysis.failures.values()))
        saving = asyncio.create_task(asyncio.to_thread(self._save, work, media, analysis))
        try:
            return await asyncio.shield(saving)
        except asyncio.CancelledError:
            await asyncio.gather(saving, return_exceptions=True)  # a thread can't be cancelled
            # Its caller may have tidied up already, and looks no more.
            await asyncio.to_thread(self._store.remove, _folder(work))
            raise

    def _stream_folder(self, request: JobRequest) -> str:
        """Where a node puts the files that it writes itself: in an ``analyze`` job, HLS alone."""
        graph = self._pipeline.graph
        streams = [
            name
            for name in request.outputs
            if name in graph and issubclass(graph[name].capability.result, HlsStream)
        ]
        return output_folder(next(iter(streams), "files"), request.task)

    def _save(self, work: JobWork, media: Media | None, analysis: Analysis) -> Outcome:
        """Write the files of all results; in a worker thread."""
        request, folder = work.request, _folder(work)
        cropped = any(params.get("cropped") for params in request.node_params.values())
        shown: dict[str, Shaped] = {}
        with ExitStack() as stack:

            @functools.cache  # opened for the results that need it, once
            def asset() -> Asset:
                if media is None:
                    raise EmptyInputError("this result needs the file that it was made of")
                opened = Asset(media, files=self._files, max_pixels=self._max_pixels)
                stack.callback(opened.close)
                return opened

            for node, result in analysis.results.items():
                elapsed_ms = analysis.elapsed_ms.get(node, 0.0)
                shown[node] = shape(result, Source(node, request.task, asset, elapsed_ms, cropped))
                for path, data in shown[node].files.items():
                    self._store.write(f"{folder}/{path}", data)
        output_bytes = self._store.size_bytes(folder)  # with what a node has written itself
        if request.task != ANALYZE:
            (only,) = shown.values()
            params = {"output_path": only.output_path}
            return Outcome(only.task_output, params, output_bytes, analysis.elapsed_ms)
        outputs = {node: shaped.task_output for node, shaped in shown.items()}
        problems = {
            node: problem_body(error, request.job_id) for node, error in analysis.failures.items()
        }
        task_output = {"outputs": outputs, "problems": problems}
        return Outcome(task_output, {}, output_bytes, analysis.elapsed_ms)


class _Overall:
    """Turns the progress of nodes into that of the job: the mean of those that report any.

    Nodes that report none take no time beside them. It never goes back, and tells each whole
    percent once.
    """

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell = tell
        self._percents: dict[str, float] = {}
        self._told = 0

    def __call__(self, progress: Progress) -> None:
        self._percents[progress.node] = progress.percent
        mean = int(sum(self._percents.values()) / len(self._percents))
        percent = min(mean, _LAST_PERCENT)
        if percent > self._told:
            self._told = percent
            self._tell(Progress(progress.node, percent))


def _folder(work: JobWork) -> str:
    return f"{work.request.job_id}/{work.attempt_id}"


def _media(request: JobRequest) -> Media | None:
    if request.input_path is not None:
        return Media(path=request.input_path)
    if request.input_name is None:
        return None
    key = f"{request.job_id}/{INPUT}/{request.input_name}"
    return Media(stored=key, filename=request.input_name)
