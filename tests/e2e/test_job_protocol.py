"""The original system's job protocol: all nine tasks, as its SDK submits, follows and fetches."""

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np
import pytest
from PIL import Image

from deployments.hls_streaming import validate
from deployments.runtime.random_media import VideoGenerator
from deployments.runtime.types import Media
from serve_app.config import ServeFile
from serve_app.stack import RunningStack
from tests.deployments.faces_support import cosine
from tests.e2e.sdk import JobView, Pace, Sdk, Watched

TIMEOUT_S = 60.0  # as the SDK's own tests allow
POLLING, MQTT = "polling", "mqtt"

EMBEDDING = {"embedding_dim", "normalized", "embedding"}
EXIF_FIELDS = {
    "make",
    "model",
    "date_time_original",
    "create_date",
    "image_width",
    "image_height",
    "orientation",
    "iso",
    "f_number",
    "exposure_time",
    "focal_length",
    "gps_latitude",
    "gps_longitude",
    "gps_altitude",
    "software",
    "raw_metadata",
}


class Case(NamedTuple):
    """A task, what its client sends, the fields that it reads and the file that it fetches."""

    task: str
    name: str
    params: dict[str, object]
    fields: set[str]
    path: str


CASES = [
    Case(
        "clip_embedding",
        "photo.jpg",
        {"normalize": "true"},
        EMBEDDING,
        "output/clip_embedding.npy",
    ),
    Case(
        "dino_embedding",
        "photo.jpg",
        {"normalize": "true"},
        EMBEDDING,
        "output/dino_embedding.npy",
    ),
    Case(
        "face_embedding",
        "photo.jpg",
        {"normalize": "true"},
        {*EMBEDDING, "embeddings", "quality_score"},
        "output/face_embedding.npy",
    ),
    Case(
        "face_detection",
        "photo.jpg",
        {"confidence_threshold": 0.7, "nms_threshold": 0.4},
        {"faces", "num_faces", "image_width", "image_height"},
        "output/face_detection.json",
    ),
    Case(
        "hash",
        "photo.jpg",
        {"algorithm": None},
        {"media_type", "phash", "dhash"},
        "output/hash.json",
    ),
    Case("exif", "photo.jpg", {"tags": None}, EXIF_FIELDS, "output/exif_metadata.json"),
    Case(
        "image_conversion",
        "photo.jpg",
        {"format": "png", "quality": 90},
        {"output_path"},
        "output/converted_photo.png",
    ),
    Case(
        "media_thumbnail",
        "video.mp4",
        {"width": 128, "height": None, "maintain_aspect_ratio": "true"},
        {"media_type", "thumbnail_path"},
        "output/thumbnail.jpg",
    ),
    Case(
        "hls_streaming",
        "video.mp4",
        {"include_original": "true"},
        {"master_playlist", "variants_generated", "total_segments", "include_original"},
        "output/adaptive.m3u8",
    ),
]


@pytest.fixture(scope="module")
def sdk(running: RunningStack, serve_file: ServeFile) -> Iterator[Sdk]:
    """Give a client that polls fast, connected to the broker that the stack's file names."""
    broker = serve_file.args.events.mqtt
    assert broker is not None
    with Sdk(running.url, broker.port, Pace(0.05, 1.0, 0.05)) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def files(photo: Callable[[str], Media], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with what is sent."""
    folder = tmp_path_factory.mktemp("sent")
    (folder / "photo.jpg").write_bytes(photo("obama").data)
    VideoGenerator(size=(320, 240), duration_s=2, with_audio=True).write(folder / "video.mp4")
    return folder


def ended(sdk: Sdk, job: JobView, watched: Watched) -> JobView:
    """Wait for the event that says that a job has ended, then ask for its output."""
    assert watched.ended.wait(TIMEOUT_S), f"no event; the job is {sdk.get(job.job_id).status}"
    return sdk.get(job.job_id)


@pytest.mark.parametrize("way", [POLLING, MQTT])
@pytest.mark.parametrize("case", CASES, ids=[case.task for case in CASES])
def test_task(sdk: Sdk, files: Path, case: Case, way: str) -> None:
    """Submit, follow, fetch and remove; no word of it is another than the SDK expects."""
    job, watched = sdk.submit_and_watch(case.task, files / case.name, case.params)
    assert (case.task, 5) == (job.task_type, job.priority)
    done = sdk.wait(job.job_id, TIMEOUT_S) if way == POLLING else ended(sdk, job, watched)
    assert ("completed", 100, None) == (done.status, done.progress, done.error_message)
    assert case.fields <= set(done.output)
    assert case.path == done.params["output_path"]
    assert {name for name, value in case.params.items() if value is not None} <= set(done.params)
    assert done.started_at is not None
    assert done.completed_at is not None
    assert job.created_at <= done.started_at <= done.completed_at
    assert len(sdk.download(job.job_id, case.path)) > 0
    if way == MQTT:
        last = watched.events[-1]
        assert ("completed", 100) == (last.event_type, last.progress)
    sdk.delete(job.job_id)
    assert 404 == sdk.http.get(f"/jobs/{job.job_id}").status_code


def completed(sdk: Sdk, task: str, file: Path | None, **params: object) -> JobView:
    """Have a job done."""
    job = sdk.wait(sdk.submit(task, file, params).job_id, TIMEOUT_S)
    assert "completed" == job.status, job.error_message
    return job


@pytest.mark.parametrize(
    ("task", "dim"), [("clip_embedding", 512), ("dino_embedding", 384), ("face_embedding", 192)]
)
def test_embeddings(sdk: Sdk, files: Path, task: str, dim: int) -> None:
    """The file is one float32 row of length 1, and the output lists the same."""
    job = completed(sdk, task, files / "photo.jpg")
    array = np.load(io.BytesIO(sdk.download(job.job_id, f"output/{task}.npy")))
    assert (np.float32, (dim,)) == (array.dtype, array.shape)
    assert dim == job.output["embedding_dim"]
    np.testing.assert_allclose(1.0, np.linalg.norm(array), rtol=1e-5)
    np.testing.assert_array_equal(array, np.array(job.output["embedding"], np.float32))


def test_faces(sdk: Sdk, files: Path) -> None:
    """Each face has its five landmarks and a crop, whose embedding is the photo's own."""
    job = completed(sdk, "face_detection", files / "photo.jpg")
    assert job.output["num_faces"] == len(job.output["faces"]) == 1
    (face,) = job.output["faces"]
    numbers = [*face["bbox"].values(), *np.ravel(list(face["landmarks"].values()))]
    assert {"x1", "y1", "x2", "y2"} == set(face["bbox"])
    assert {"right_eye", "left_eye", "nose_tip", "mouth_right", "mouth_left"} <= set(
        face["landmarks"]
    )
    assert min(numbers) >= 0.0
    assert max(numbers) <= 1.0
    crop = files / "face_0.png"
    crop.write_bytes(sdk.download(job.job_id, face["file_path"]))
    rows = [
        np.array(completed(sdk, "face_embedding", path).output["embedding"], np.float32)
        for path in (crop, files / "photo.jpg")
    ]
    assert cosine(*rows) > 0.95


def test_metadata_and_hashes(sdk: Sdk, files: Path) -> None:
    """What is in the files of a hash and of metadata is what the protocol states."""
    job = completed(sdk, "hash", files / "photo.jpg", algorithm="md5")
    hashes = sdk.download_json(job.job_id, "output/hash.json")
    assert {"hash_value", "algorithm", "media_type", "process_time"} == set(hashes)
    assert ("md5", "image", 32) == (
        hashes["algorithm"],
        hashes["media_type"],
        len(hashes["hash_value"]),
    )
    job = completed(sdk, "exif", files / "photo.jpg", tags="Make")
    assert set(sdk.download_json(job.job_id, "output/exif_metadata.json")) >= EXIF_FIELDS


@pytest.mark.parametrize("format_", ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tiff"])
def test_conversion(sdk: Sdk, files: Path, format_: str) -> None:
    """Each format that the protocol names comes out; clients find it by the job's parameters."""
    job = completed(sdk, "image_conversion", files / "photo.jpg", format=format_)
    assert format_ == job.params["format"]
    image = Image.open(io.BytesIO(sdk.download(job.job_id, str(job.params["output_path"]))))
    written = {"jpg": "JPEG"}.get(format_, format_.upper())
    with Image.open(files / "photo.jpg") as sent:
        assert (written, sent.size) == (image.format, image.size)


@pytest.mark.parametrize(("keep", "size"), [("true", (128, 96)), ("false", (128, 128))])
def test_thumbnail(sdk: Sdk, files: Path, keep: str, size: tuple[int, int]) -> None:
    """A thumbnail of a video keeps the shape unless the client wants it otherwise."""
    params = {"width": 128, "height": 128, "maintain_aspect_ratio": keep}
    job = completed(sdk, "media_thumbnail", files / "video.mp4", **params)
    image = Image.open(io.BytesIO(sdk.download(job.job_id, "output/thumbnail.jpg")))
    assert ("JPEG", size) == (image.format, image.size)
    assert "video" == job.output["media_type"]


def test_stream(sdk: Sdk, files: Path, allowed: Path, tmp_path: Path) -> None:
    """A stream of a video on the server's disk plays from the job's files."""
    path = allowed / "named.mp4"
    path.write_bytes((files / "video.mp4").read_bytes())
    params: dict[str, Any] = {
        "input_absolute_path": str(path),
        "variants": '[{"resolution": 120, "bitrate": 200}]',
    }
    job = completed(sdk, "hls_streaming", None, **params)
    assert (1, False) == (job.output["variants_generated"], job.output["include_original"])
    listed = sdk.http.get(f"/jobs/{job.job_id}/files").json()["files"]
    for entry in listed:
        if entry["path"].startswith("output/"):
            data = sdk.download(job.job_id, entry["path"])
            (tmp_path / Path(entry["path"]).name).write_bytes(data)
    assert job.output["total_segments"] == len(list(tmp_path.glob("*.m4s")))
    assert [] == validate(tmp_path)


def test_failed_job(sdk: Sdk, files: Path) -> None:
    """A job that can't be done ends as ``failed``, on which clients stop, with the reason."""
    broken = files / "broken.jpg"
    broken.write_bytes((files / "photo.jpg").read_bytes()[:5000])
    job, watched = sdk.submit_and_watch("image_conversion", broken, {"format": "png"})
    failed = ended(sdk, job, watched)
    assert ("failed", None) == (failed.status, failed.task_output)
    assert failed.error_message is not None
    assert "broken.jpg" in failed.error_message
    assert "failed" == watched.events[-1].event_type


def test_refused_submission(sdk: Sdk, files: Path) -> None:
    """What is wrong with a submission is said at once."""
    with pytest.raises(httpx2.HTTPStatusError) as raised:
        sdk.submit("image_conversion", files / "photo.jpg", {"format": "docx"})
    assert 422 == raised.value.response.status_code
    assert "format: expected 'png'" in raised.value.response.json()["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("output/none.json", 404), ("output", 400), ("%2e%2e/%2e%2e/etc/passwd", 403)],
)
def test_files_that_are_none(sdk: Sdk, files: Path, path: str, status: int) -> None:
    """A file that is not there, a folder, and a path that leads out each have their status."""
    job = completed(sdk, "hash", files / "photo.jpg")
    assert status == sdk.http.get(f"/jobs/{job.job_id}/files/{path}").status_code


def test_worker_tells_of_itself(sdk: Sdk) -> None:
    """The broker retains what this worker can do, and HTTP says the same."""
    assert sdk.monitor.known.wait(TIMEOUT_S)
    tasks = {case.task for case in CASES}
    assert any(tasks <= set(worker.capabilities) for worker in sdk.monitor.workers.values())
    told = sdk.http.get("/capabilities").json()
    assert told["num_workers"] >= 1
    assert tasks <= set(told["capabilities"])
    assert {int} == set(map(type, told["capabilities"].values()))


def test_service(sdk: Sdk) -> None:
    """The root says that the service is healthy, in the words that clients look for."""
    body = sdk.http.get("/").json()
    assert "healthy" == body["status"]
    assert {"service", "version", "guestMode"} <= set(body)


def test_storage(sdk: Sdk, files: Path) -> None:
    """What jobs take can be asked for, and old ones removed by their age."""
    job = completed(sdk, "hash", files / "photo.jpg")
    told = sdk.http.get("/admin/jobs/storage/size").json()
    assert told["job_count"] >= 1
    assert told["total_size"] >= (files / "photo.jpg").stat().st_size
    removed = sdk.http.delete("/admin/jobs/cleanup", params={"days": 7}).json()
    assert {"deleted_count", "freed_space"} == set(removed)
    assert "completed" == sdk.get(job.job_id).status


def test_progress_moves(sdk: Sdk, tmp_path: Path) -> None:
    """Work that takes long is seen on its way, over HTTP and as events."""
    video = tmp_path / "long.mp4"
    VideoGenerator(size=(640, 360), duration_s=20).write(video)
    job, watched = sdk.submit_and_watch("hls_streaming", video, {})
    seen: set[int] = set()
    deadline_s = time.monotonic() + TIMEOUT_S
    while (now := sdk.get(job.job_id)).status not in {"completed", "failed"}:
        assert time.monotonic() < deadline_s
        seen.add(now.progress)
        time.sleep(0.05)
    assert "completed" == now.status
    assert any(0 < percent < 100 for percent in seen)
    percents = [event.progress or 0 for event in watched.events]
    assert sorted(percents) == percents
