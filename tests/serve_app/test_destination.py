"""Streams that become part of a job's files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.hls_streaming import HlsStream, HlsStreamingParams, validate
from deployments.runtime.asset import Asset
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import CancelledRequestError
from deployments.runtime.file_store import FileStore
from deployments.runtime.folders import AllowedFolders, OutputStore
from deployments.runtime.models import ModelStore, load_catalogue
from deployments.runtime.random_media import VideoGenerator
from deployments.runtime.task import Task, running
from deployments.runtime.types import Media, Upload
from serve_app.config import AppArgs, Limits
from serve_app.graph import Graph
from serve_app.host import Host
from serve_app.pipeline import Pipeline
from serve_app.settings import DEFAULT_CATALOGUE
from tests.deployments.hls_streaming.studio import QuickHlsStreaming
from tests.deployments.runtime.stores_support import s3_endpoint, s3_store

FILM = VideoGenerator(size=(160, 120), duration_s=1.0)
PLACE = "job/a1/output"
PARAMS = {"variants": "120:300", "segment_s": 1}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of an S3 server."""
    with s3_endpoint() as url:
        yield url


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    """Where the files of jobs are."""
    if request.param == "folder":
        return FileStore(str(tmp_path / "jobs"))
    return s3_store(request.getfixturevalue("s3"))


@pytest.fixture
def settings(tmp_path: Path, store: FileStore) -> NodeSettings:
    """Settings of a node that keeps outputs, and knows the files of jobs."""
    (tmp_path / "writable").mkdir()
    return NodeSettings(
        store=ModelStore(load_catalogue(DEFAULT_CATALOGUE)),
        files=AllowedFolders(writable=(tmp_path / "writable",), store=store),
        outputs=OutputStore(tmp_path / "outputs", max_bytes=1, store=store),
    )


def stream(settings: NodeSettings, destination: str | None, **params: str) -> HlsStream:
    """Stream the film, as a host does it for a request."""
    asset = Asset(FILM.media())
    capability = QuickHlsStreaming(settings)
    wanted = HlsStreamingParams.model_validate(PARAMS | params)
    try:
        with running(Task(destination=destination)):
            [result] = capability.run_batch([((asset.video,), wanted)])
    finally:
        asset.close()
    return result


def test_destination(settings: NodeSettings, store: FileStore, tmp_path: Path) -> None:
    """The stream lies where it is wanted, whole, however large, and again after a second try."""
    names: list[str] = []
    for _ in range(2):
        result = stream(settings, PLACE)
        assert (None, "adaptive.m3u8") == (result.output_id, result.master_playlist)
        names = [name for name, _ in store.list(PLACE)]
        assert ["120p_300k.m3u8", "120p_300k_00000.m4s"] == names[:2]
        assert {"adaptive.m3u8", "120p_300k_init.mp4"} <= set(names)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in names:
        with store.open(f"{PLACE}/{name}") as file:
            (copy / name).write_bytes(file.read())
    assert [] == validate(copy)
    assert [] == list((tmp_path / "outputs").iterdir())


def test_without_a_destination(settings: NodeSettings, store: FileStore) -> None:
    """Requests that are no jobs leave the files of jobs alone."""
    roomy = OutputStore(settings.outputs.folder, store=store) if settings.outputs else None
    result = stream(NodeSettings(settings.store, settings.files, roomy), None)
    assert f"outputs/{result.output_id}/adaptive.m3u8" == result.master_playlist
    assert () == store.list("")


def test_folder_goes_first(settings: NodeSettings, store: FileStore, tmp_path: Path) -> None:
    """A job that names a folder gets the stream there."""
    folder = str(tmp_path / "writable" / "film")
    result = stream(settings, PLACE, output_folder=folder)
    assert f"{folder}/adaptive.m3u8" == result.master_playlist
    assert () == store.list("")


def test_cancelled(settings: NodeSettings, store: FileStore, tmp_path: Path) -> None:
    """Of work that is cancelled nothing remains, neither there nor where it was done."""
    task = Task(lambda _: task.cancel(), PLACE)
    asset = Asset(FILM.media())
    with running(task), pytest.raises(CancelledRequestError):
        QuickHlsStreaming(settings).run_batch(
            [((asset.video,), HlsStreamingParams.model_validate(PARAMS))],
        )
    asset.close()
    assert () == store.list("")
    assert [] == list((tmp_path / "outputs").iterdir())


async def test_through_the_pipeline(settings: NodeSettings, store: FileStore) -> None:
    """A job's file and a job's folder go through the graph by name."""
    store.write("job/input/film.mp4", FILM.encode())
    args = AppArgs.model_validate({"graph": {"hls_streaming": {"needs": ["video"]}}})
    graph = Graph(args, {"hls_streaming": QuickHlsStreaming})
    host = Host([(graph["hls_streaming"], settings)])
    analysis = await Pipeline(graph, {"hls_streaming": host}, Limits()).analyze(
        Upload(Media(stored="job/input/film.mp4")),
        ["hls_streaming"],
        {"hls_streaming": PARAMS},
        destination=PLACE,
    )
    assert {} == analysis.failures
    assert "adaptive.m3u8" == analysis.results["hls_streaming"].master_playlist
    assert "adaptive.m3u8" in [name for name, _ in store.list(PLACE)]
