"""All capabilities through the running graph: results, long work, and programs that are killed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
from PIL import Image

from deployments.clip_similarity import ClipSimilarity
from deployments.clip_text_embedding import ClipTextEmbedding
from deployments.dino_embedding import DinoEmbedding
from deployments.hash import Hash
from deployments.runtime.ffmpeg import ffmpeg_exe
from deployments.runtime.random_media import ImageGenerator, VideoGenerator
from deployments.runtime.types import Media, Upload
from serve_app.handles import Client
from serve_app.stack import RunningStack
from tests.serve_app.http.events import events_of

ANALYZED = ("face_embedding", "dino_embedding", "clip_embedding", "exif", "hash", "media_thumbnail")
KILLED_AFTER_S = 30


@pytest.fixture(scope="module")
def video() -> bytes:
    """Make two seconds of video with sound."""
    return VideoGenerator(size=(320, 240), duration_s=2, with_audio=True).encode()


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Make two minutes of video, which take a while to be encoded."""
    folder = tmp_path_factory.mktemp("video")
    VideoGenerator(size=(1280, 720), duration_s=2).write(folder / "short.mp4")
    source = ["-stream_loop", "59", "-i", str(folder / "short.mp4"), "-c", "copy"]
    command = [ffmpeg_exe(), "-loglevel", "error", *source, str(folder / "long.mp4")]
    subprocess.run(command, check=True)
    return (folder / "long.mp4").read_bytes()


@pytest.fixture
def programs(running: RunningStack) -> Callable[[str], list[psutil.Process]]:
    """Find the stack's processes of a program."""

    def of(name: str) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for process in running.mark.processes():
            try:
                if any(name in Path(part).name for part in process.cmdline()[:3]):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    return of


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that must happen."""
    deadline_s = time.monotonic() + KILLED_AFTER_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.02)


def test_every_node_is_ready(http: httpx2.Client) -> None:
    """Each node answers its self-test, and a stand-in is named as one."""
    nodes = http.get("/readyz").json()["nodes"]
    assert {"ready"} == {node["state"] for node in nodes.values()}
    assert "dinov2_vits14_stand_in" == nodes["dino_embedding"]["model"]


def test_analyze_gives_what_the_single_routes_give(
    http: httpx2.Client,
    read: Callable[[str], bytes],
) -> None:
    """Six outputs of one upload are those that each route gives alone."""
    photo = read("obama")
    query = {"outputs": ",".join(ANALYZED)}
    together = http.post("/v1/analyze", params=query, content=photo).json()
    assert {} == together["problems"]
    for name in ANALYZED:
        accept = {"accept": "application/json"}
        alone = http.post(f"/v1/{name}", content=photo, headers=accept).json()
        assert alone == together["outputs"][name], name


def test_similarity_over_http_and_handles(http: httpx2.Client, handles: Client) -> None:
    """The text that says the colour of a picture fits it better, whichever way one asks."""
    buffer = BytesIO()
    Image.new("RGB", (64, 64), (255, 0, 0)).save(buffer, format="PNG")
    form = [
        ("file", ("red.png", buffer.getvalue())),
        ("text", (None, "red")),
        ("text", (None, "blue")),
    ]
    red, blue = http.post("/v1/clip_similarity", files=form).json()["texts"]
    assert ("red", "blue") == (red["text"], blue["text"])
    assert red["probability"] > blue["probability"]
    upload = Upload(Media(buffer.getvalue()), ("red", "blue"))
    result = handles.run(ClipSimilarity, upload)
    assert red["cosine"] == pytest.approx(result.texts[0].cosine, abs=1e-5)


def test_embeddings_over_handles(handles: Client, read: Callable[[str], bytes]) -> None:
    """Pictures and texts go over handles as bytes and strings, and come back as arrays."""
    picture = handles.run(DinoEmbedding, read("coffee"))
    assert (np.float32, (384,)) == (picture.embedding.dtype, picture.embedding.shape)
    texts = handles.run(ClipTextEmbedding, "a cup of coffee")
    assert [(512,)] == [text.embedding.shape for text in texts.texts]
    assert handles.run(Hash, read("coffee")).hash_value


def test_file_by_path(
    http: httpx2.Client,
    allowed: Path,
    read: Callable[[str], bytes],
    video: bytes,
) -> None:
    """A file below an allowed folder is named instead of sent; others are refused."""
    (allowed / "photo.jpg").write_bytes(read("obama"))
    named = http.post("/v1/hash", json={"path": str(allowed / "photo.jpg")}).json()
    sent = http.post("/v1/hash", content=read("obama")).json()
    assert sent["hash_value"] == named["hash_value"]
    assert 403 == http.post("/v1/hash", json={"path": "/etc/hostname"}).status_code
    (allowed / "video.mp4").write_bytes(video)
    stream = http.post("/v1/hls_streaming", json={"path": str(allowed / "video.mp4")}).json()
    assert 200 == http.get(f"/v1/{stream['master_playlist']}").status_code


def test_stream_with_progress(http: httpx2.Client, video: bytes) -> None:
    """A stream is made in another process while its progress is seen, and then served."""
    accept = {"accept": "text/event-stream"}
    answer = http.post("/v1/hls_streaming", content=video, headers=accept)
    *progress, (kind, stream) = events_of(answer.text)
    assert "result" == kind
    assert {"progress"} == {kind for kind, _ in progress}
    percents = [event["percent"] for _, event in progress]
    assert sorted(percents) == percents
    assert percents[-1] == 100
    master = http.get(f"/v1/{stream['master_playlist']}")
    assert "#EXT-X-STREAM-INF" in master.text
    assert "application/vnd.apple.mpegurl" == master.headers["content-type"]
    assert 204 == http.delete(f"/v1/outputs/{stream['output_id']}").status_code
    assert 404 == http.get(f"/v1/{stream['master_playlist']}").status_code


def test_client_that_goes_away_ends_ffmpeg(
    running: RunningStack,
    http: httpx2.Client,
    long_video: bytes,
    programs: Callable[[str], list[psutil.Process]],
    video: bytes,
) -> None:
    """Nothing is encoded for somebody who has hung up, and the next request works."""
    with httpx2.Client(base_url=running.url, timeout=60) as client:
        accept = {"accept": "text/event-stream"}
        request = client.stream("POST", "/v1/hls_streaming", content=long_video, headers=accept)
        with request as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    break
            assert programs("ffmpeg")
    wait_until(lambda: not programs("ffmpeg"))
    assert 200 == http.post("/v1/hls_streaming", content=video).status_code


def test_killed_ffmpeg(
    http: httpx2.Client,
    long_video: bytes,
    video: bytes,
    programs: Callable[[str], list[psutil.Process]],
) -> None:
    """An FFmpeg that is killed fails its own request and no other."""
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(http.post, "/v1/hls_streaming", content=long_video)
        wait_until(lambda: bool(programs("ffmpeg")))
        for process in programs("ffmpeg"):
            os.kill(process.pid, signal.SIGKILL)
        answer = pending.result()
    assert (503, "urn:cl-ml-serve:problem:tool-failed") == (
        answer.status_code,
        answer.json()["type"],
    )
    assert 200 == http.post("/v1/hls_streaming", content=video).status_code


def test_killed_exiftool_under_load(
    http: httpx2.Client,
    programs: Callable[[str], list[psutil.Process]],
) -> None:
    """When every ExifTool is killed under load, requests are tried again and all succeed."""
    photo = ImageGenerator((64, 48)).media().data

    def post(_: int) -> int:
        return http.post("/v1/exif", content=photo).status_code

    with ThreadPoolExecutor(4) as threads:
        answers: Iterator[int] = threads.map(post, range(60))
        killed = programs("exiftool")
        for process in killed:
            os.kill(process.pid, signal.SIGKILL)
        statuses = list(answers)
    assert killed
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 50
    assert 200 == post(0)


def test_bad_input_leaves_nothing_behind(
    running: RunningStack,
    http: httpx2.Client,
    read: Callable[[str], bytes],
) -> None:
    """After bad input of every kind the graph works on, without an open or a temporary file."""
    nodes = ("exif", "hash", "media_thumbnail", "image_conversion?format=png", "hls_streaming")
    bad = (b"", b"\xff\xd8\xff\xe0broken", b"just a text", read("obama")[:2000])

    def open_files() -> int:
        total = 0
        for process in running.mark.processes():
            with suppress(OSError):  # it may end while we look
                fds = Path(f"/proc/{process.pid}/fd").iterdir()
                total += sum("(deleted)" in str(fd.readlink()) for fd in fds)
        return total

    before = open_files()
    for node in nodes:
        for data in bad:
            status = http.post(f"/v1/{node}", content=data).status_code
            assert status == 200 or 400 <= status < 500, node
    assert 200 == http.post("/v1/media_thumbnail", content=read("obama")).status_code
    assert open_files() <= before
