"""Jobs that hold their places for as long as a test wants: streams whose encoder stands still."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from serve_app.schema import JobsSpec
from tests.deployments.videos_support import ffmpeg
from tests.jobs.clients import Service, wait_until
from tests.jobs.systems import System, encoders

PLACES = JobsSpec().max_concurrent
_MOST_URGENT = "0"


def long_video(folder: Path) -> Path:
    """Write a video that takes minutes to encode, without taking them."""
    clip, video = folder / "clip.mp4", folder / "long.mp4"
    source = "smptebars=size=640x360:rate=25:duration=10"
    codec = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
    ffmpeg("-f", "lavfi", "-i", source, *codec, clip)
    ffmpeg("-stream_loop", "300", "-i", clip, "-c", "copy", video)
    return video


def submit_stream(service: Service, video: Path) -> str:
    """Submit a job that encodes for minutes, before all others; return its id."""
    answer = service.ask(
        "POST",
        "/jobs/hls_streaming",
        data={"variants": "240:300", "priority": _MOST_URGENT},
        files={"file": ("long.mp4", video.read_bytes())},
    )
    assert answer.is_success, answer.text
    return answer.json()["job_id"]


@contextmanager
def all_places_taken(system: System, service: Service, video: Path) -> Iterator[list[str]]:
    """Let jobs that stand still hold all places for the block; give their ids."""

    def free() -> int:
        return service.get("/capabilities")["capabilities"]["hash"]

    wait_until(lambda: free() == PLACES)
    ids = [submit_stream(service, video) for _ in range(PLACES)]
    try:
        wait_until(lambda: free() == 0)
        wait_until(lambda: encoders(system.processes()))
        for encoder in encoders(system.processes()):
            with contextlib.suppress(psutil.NoSuchProcess):
                encoder.suspend()
        yield ids
    finally:
        for job_id in ids:
            service.ask("DELETE", f"/jobs/{job_id}")
