"""Attempts at jobs on the shipped graph, in this process: what they yield, write and raise."""

import asyncio
import contextlib
import io
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deployments.runtime.errors import (
    CorruptMediaError,
    EmptyInputError,
    ForbiddenPathError,
    PathNotFoundError,
    UnknownOutputError,
)
from deployments.runtime.file_store import FileStore
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.models import ModelStore
from deployments.runtime.random_media import VideoGenerator
from deployments.runtime.types import Media
from serve_app.app import build_graph, node_settings
from serve_app.calls import Progress
from serve_app.config import Limits, load_file
from serve_app.host import Host
from serve_app.jobs.job import INPUT, JobRequest, JobWork, Outcome
from serve_app.jobs.tasks import parse_task
from serve_app.jobs.work import JobWorker, _Overall
from serve_app.pipeline import Pipeline
from serve_app.settings import config_folder
from serve_app.stores import open_stores
from tests.deployments.runtime.stores_support import REGION, s3_endpoint, s3_store
from tests.serve_app.fake import Slow, make_settings, make_wide_graph
from tests.stand_in_graph import on_stand_ins

ATTEMPT = "a1-0123abcd"
VARIANTS = '[{"resolution": 120, "bitrate": 200}]'


class Shop:
    """A worker, its store, and jobs for it."""

    def __init__(self, pipeline: Pipeline, files: FileStore, readable: Path) -> None:
        """Keep what works."""
        self.pipeline = pipeline
        self.store = files
        self.readable = readable
        self.worker = JobWorker(pipeline, files, AllowedFolders(readable=(readable,)))

    def work(
        self,
        task: str,
        media: Media | None = None,
        *fields: tuple[str, str],
        path: str | None = None,
        texts: tuple[str, ...] = (),
    ) -> JobWork:
        """Submit a job: write its input into the store, and say what is to be done."""
        job_id = str(uuid.uuid4())
        name = media.filename if media else None
        if media is not None:
            self.store.write(f"{job_id}/{INPUT}/{name}", media.data)
        parsed = parse_task(self.pipeline.graph, task, fields)
        request = JobRequest(
            job_id=job_id,
            task=task,
            outputs=parsed.outputs,
            node_params=parsed.node_params,
            params=parsed.params,
            input_name=name,
            input_path=path,
            texts=texts,
        )
        return JobWork(request, ATTEMPT)

    def do(self, work: JobWork) -> tuple[list[Progress], Outcome]:
        """Do one attempt; return its progress and outcome."""

        async def collect() -> list[Progress | Outcome]:
            return [item async for item in self.worker.run(work)]

        *progress, outcome = asyncio.run(collect())
        assert isinstance(outcome, Outcome)
        return [item for item in progress if isinstance(item, Progress)], outcome

    def outcome(
        self,
        task: str,
        media: Media | None = None,
        *fields: tuple[str, str],
        path: str | None = None,
        texts: tuple[str, ...] = (),
    ) -> tuple[Outcome, dict[str, bytes]]:
        """Do a job; return its outcome and files."""
        work = self.work(task, media, *fields, path=path, texts=texts)
        _, outcome = self.do(work)
        return outcome, self.files(work)

    def files(self, work: JobWork) -> dict[str, bytes]:
        """Read what an attempt has left."""
        folder = f"{work.request.job_id}/{ATTEMPT}"
        found: dict[str, bytes] = {}
        for name, _ in self.store.list(folder):
            with self.store.open(f"{folder}/{name}") as file:
                found[name] = file.read()
        return found


def make_shop(folder: Path, jobs: dict[str, object]) -> Shop:
    """Load the shipped graph, with stand-ins for what can't be fetched everywhere."""
    file = load_file(config_folder() / "serve.yaml")
    raw_args = file.raw["applications"][0]["args"]
    raw_args["jobs"] = {"folder": str(folder), **jobs}
    raw_args["outputs"] = {"folder": str(folder / "outputs")}
    readable = folder / "readable"
    readable.mkdir()
    raw_args["files"] = {"readable_folders": [str(readable)]}
    args = on_stand_ins(file, folder / "stand-ins").args
    stores = open_stores(args)
    assert stores.files is not None
    graph = build_graph(args, stores.models)
    hosts = {
        host: Host([(graph[name], node_settings(graph[name], args, stores)) for name in names])
        for host, names in graph.hosts.items()
    }
    return Shop(Pipeline(graph, hosts, args.limits), stores.files, readable)


@pytest.fixture(scope="module")
def shop(store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Give a worker whose store is a folder."""
    del store  # installs the models
    return make_shop(tmp_path_factory.mktemp("jobs"), {})


@pytest.fixture(scope="module")
def obama(photo: Callable[[str], Media]) -> Media:
    """Give a photograph of one person, as it is sent."""
    return Media(photo("obama").data, "photo.jpg")


@pytest.fixture(scope="module")
def video() -> Media:
    """Make two seconds of video."""
    return Media(VideoGenerator(size=(320, 240), duration_s=2).encode(), "video.mp4")


@pytest.mark.parametrize(
    ("task", "fields", "path", "paths"),
    [
        ("clip_embedding", (), "output/clip_embedding.npy", set[str]()),
        ("dino_embedding", (), "output/dino_embedding.npy", set[str]()),
        ("face_embedding", (), "output/face_embedding.npy", set[str]()),
        ("face_detection", (), "output/face_detection.json", {"faces/face_0.png"}),
        ("hash", (), "output/hash.json", set[str]()),
        ("exif", (), "output/exif_metadata.json", set[str]()),
        ("image_conversion", (("format", "webp"),), "output/converted_photo.webp", set[str]()),
        ("media_thumbnail", (), "output/thumbnail.jpg", set[str]()),
        ("media_thumbnail", (("format", "avif"),), "output/thumbnail.avif", set[str]()),
        ("face_alignment", (), "output/face_alignment.json", set[str]()),
    ],
)
def test_tasks_on_a_photo(  # noqa: PLR0913, PLR0917 - the columns of the table
    shop: Shop,
    obama: Media,
    task: str,
    fields: tuple[tuple[str, str], ...],
    path: str,
    paths: set[str],
) -> None:
    """Each task leaves its files, and says where and how large they are."""
    outcome, files = shop.outcome(task, obama, *fields)
    assert {path, *paths} == set(files)
    assert {"output_path": path} == outcome.params
    assert path == outcome.task_output["output_path"]
    assert sum(map(len, files.values())) == outcome.output_bytes
    assert outcome.elapsed_ms[task] > 0
    json.dumps(outcome.task_output)


def test_embedding_of_a_crop(shop: Shop, obama: Media) -> None:
    """The crop that a detection leaves has one embedding of shape (D,)."""
    _, files = shop.outcome("face_detection", obama)
    outcome, files = shop.outcome("face_embedding", Media(files["faces/face_0.png"], "face_0.png"))
    array = np.load(io.BytesIO(files["output/face_embedding.npy"]))
    assert (outcome.task_output["embedding_dim"],) == array.shape
    assert 0 < outcome.task_output["quality_score"] <= 1


def test_embeddings_of_a_photo(shop: Shop, obama: Media) -> None:
    """A client that says that the photo is no crop gets a row for each face."""
    _, files = shop.outcome("face_embedding", obama, ("cropped", "false"))
    assert (1, 192) == np.load(io.BytesIO(files["output/face_embedding.npy"])).shape


def test_stream(shop: Shop, video: Media) -> None:
    """A stream is in the job's folder, and its progress moves in whole percent, below 100."""
    work = shop.work("hls_streaming", video, ("variants", VARIANTS))
    progress, outcome = shop.do(work)
    files = shop.files(work)
    assert "output/adaptive.m3u8" == outcome.task_output["master_playlist"]
    assert files["output/adaptive.m3u8"].startswith(b"#EXTM3U")
    segments = [name for name in files if name.endswith(".m4s")]
    assert outcome.task_output["total_segments"] == len(segments)
    assert sum(map(len, files.values())) == outcome.output_bytes
    percents = [item.percent for item in progress]
    assert len(percents) > 0
    assert sorted(set(percents)) == percents
    assert 99 >= max(percents)
    assert all(percent == int(percent) for percent in percents)


def test_several_outputs(shop: Shop, video: Media) -> None:
    """Each output has a folder; what fails is a problem beside them."""
    fields = (
        ("outputs", "hash,hls_streaming,face_detection"),
        ("hls_streaming.variants", VARIANTS),
    )
    outcome, files = shop.outcome("analyze", video, *fields)
    assert ["hash", "hls_streaming"] == list(outcome.task_output["outputs"])
    problem = outcome.task_output["problems"]["face_detection"]
    assert "urn:cl-ml-serve:problem:unsupported-media" == problem["type"]
    assert {"output/hash", "output/hls_streaming"} == {name.rpartition("/")[0] for name in files}
    assert "output/hls_streaming/adaptive.m3u8" in files
    assert {} == outcome.params


def test_several_outputs_of_a_photo(shop: Shop, obama: Media) -> None:
    """Faces of an ``analyze`` job are those of the photo: not taken for crops."""
    fields = (("outputs", "face_embedding,face_detection"),)
    outcome, files = shop.outcome("analyze", obama, *fields)
    outputs = outcome.task_output["outputs"]
    face = outputs["face_detection"]["faces"][0]
    assert face["bbox"] == outputs["face_embedding"]["faces"][0]["bbox"]
    crop = Image.open(io.BytesIO(files[face["file_path"]]))
    assert min(crop.size) > 100
    array = np.load(io.BytesIO(files["output/face_embedding/face_embedding.npy"]))
    assert (1, 192) == array.shape


def test_texts(shop: Shop) -> None:
    """A job may have texts alone."""
    outcome, files = shop.outcome("clip_text_embedding", texts=("red", "green"))
    assert ["red", "green"] == [text["text"] for text in outcome.task_output["texts"]]
    assert ["output/clip_text_embedding.json"] == list(files)


def test_file_by_its_path(shop: Shop, obama: Media) -> None:
    """A file below an allowed folder is read where it lies; its faces are cut from there."""
    (shop.readable / "named.jpg").write_bytes(obama.data)
    by_path, files = shop.outcome("face_detection", path=str(shop.readable / "named.jpg"))
    sent, files_of_sent = shop.outcome("face_detection", obama)
    assert sent.task_output == by_path.task_output
    assert files_of_sent == files


def test_store_in_s3(store: ModelStore, obama: Media, video: Media, tmp_path: Path) -> None:
    """A worker anywhere reads its input from S3, and its files are found there."""
    del store  # installs the models
    with s3_endpoint() as endpoint:
        s3 = s3_store(endpoint)
        options = {"endpoint": endpoint, "region": REGION}
        shop = make_shop(tmp_path, {"files": s3.url, "files_options": options})
        _, files = shop.outcome("face_detection", obama)
        assert {"output/face_detection.json", "faces/face_0.png"} == set(files)
        fields = ("variants", VARIANTS)
        outcome, files = shop.outcome("hls_streaming", video, fields)
        assert files["output/adaptive.m3u8"].startswith(b"#EXTM3U")
        assert sum(map(len, files.values())) == outcome.output_bytes


@pytest.mark.parametrize(
    ("task", "data", "kind"),
    [
        ("image_conversion", b"\xff\xd8\xff broken", CorruptMediaError),
        ("analyze", b"\xff\xd8\xff broken", CorruptMediaError),
        ("hash", b"", EmptyInputError),
    ],
)
def test_failure(shop: Shop, task: str, data: bytes, kind: type[Exception]) -> None:
    """The error of the task is raised; of several, the first when all have failed."""
    fields = {"image_conversion": [("format", "png")], "analyze": [("outputs", "face_detection")]}
    work = shop.work(task, Media(data, "photo.jpg"), *fields.get(task, []))
    with pytest.raises(kind, match=r"photo\.jpg"):
        shop.do(work)
    assert {} == shop.files(work)


@pytest.mark.parametrize(
    ("path", "kind"), [("/etc/passwd", ForbiddenPathError), ("gone.jpg", PathNotFoundError)]
)
def test_path_that_can_not_be_read(shop: Shop, path: str, kind: type[Exception]) -> None:
    """A job reads below the allowed folders only."""
    work = shop.work("hash", path=path if path.startswith("/") else str(shop.readable / path))
    with pytest.raises(kind):
        shop.do(work)


def test_output_that_is_gone(shop: Shop, obama: Media) -> None:
    """A job for a node that a redeploy has taken away fails with what there is instead."""
    work = shop.work("hash", obama)
    gone = JobRequest(work.request.job_id, "old", ("old",), input_name="photo.jpg")
    with pytest.raises(UnknownOutputError, match="unknown output 'old'"):
        shop.do(JobWork(gone, ATTEMPT))


@pytest.fixture
def slow_shop(tmp_path: Path) -> Iterator[Shop]:
    """Give a graph whose ``slow`` node works until it is let go on."""
    for event in (Slow.started, Slow.go_on, Slow.cancelled):
        event.clear()
    graph = make_wide_graph()
    store = FileStore(str(tmp_path / "files"), {})
    settings = make_settings()
    files = AllowedFolders(store=store)
    settings = type(settings)(store=settings.store, files=files)
    hosts = {name: Host([(graph[name], settings)]) for name in graph}
    yield Shop(Pipeline(graph, hosts, Limits()), store, tmp_path)
    Slow.go_on.set()


def test_closing_cancels_the_work(slow_shop: Shop) -> None:
    """Whoever closes the generator ends the work, and no file comes afterwards."""
    work = slow_shop.work("slow", Media(b"some words", "a.txt"))

    async def watch_and_leave() -> Progress | Outcome:
        run = slow_shop.worker.run(work)
        async with contextlib.aclosing(run):
            return await anext(run)

    assert Progress("slow", 50) == asyncio.run(watch_and_leave())
    assert Slow.cancelled.wait(10)
    assert {} == slow_shop.files(work)


def test_cancelling_while_files_are_written(
    slow_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a generator is cancelled in the middle of a write, that write has ended with it."""
    work = slow_shop.work("words", Media(b"some words", "a.txt"))
    written: list[str] = []
    real_write = FileStore.write

    def write(self: FileStore, key: str, data: bytes) -> None:
        loop.call_soon_threadsafe(began.set)
        Slow.go_on.wait(10)
        real_write(self, key, data)
        written.append(key)

    monkeypatch.setattr(FileStore, "write", write)

    async def cancel_in_the_middle() -> None:
        async def consume() -> None:
            async for _ in slow_shop.worker.run(work):
                pass

        task = asyncio.create_task(consume())
        await began.wait()
        task.cancel()
        loop.call_later(0.05, Slow.go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 1 == len(written)

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        began = asyncio.Event()
        runner.run(cancel_in_the_middle())


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([], []),
        ([("a", 0.4)], []),
        ([("a", 1.9), ("a", 1.95), ("a", 50.0), ("a", 100.0)], [1, 50, 99]),
        ([("a", 60.0), ("b", 10.0), ("b", 70.0), ("b", 100.0)], [60, 65, 80]),
    ],
)
def test_overall_progress(reports: list[tuple[str, float]], expected: list[int]) -> None:
    """Whole percent of all that reports, each told once, never back and never 100."""
    told: list[float] = []
    overall = _Overall(lambda progress: told.append(progress.percent))
    for node, percent in reports:
        overall(Progress(node, percent))
    assert expected == told
