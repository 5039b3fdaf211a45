"""The metadata of many photos over HTTP, against one ExifTool process per file."""

import shutil
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from benchmarks.capabilities.ratio import Ratio
from benchmarks.errors import BenchmarkError
from deployments.runtime.random_media import ExifFields, ImageGenerator

CLIENTS = 8


def make_photos(folder: Path, count: int) -> list[Path]:
    """Write small photos with metadata, each another one."""
    paths: list[Path] = []
    for i in range(count):
        exif = ExifFields(make="Example", model=f"Camera {i}", orientation=1)
        path = folder / f"{i:03}.jpg"
        path.write_bytes(ImageGenerator((640, 480), exif=exif, seed=i).media().data)
        paths.append(path)
    return paths


def compare(url: str, photos: Sequence[Path]) -> Ratio:
    """Measure both once over all photos, after one that warms up."""

    def post(client: httpx2.Client, path: Path) -> None:
        answer = client.post(f"{url}/v1/exif", content=path.read_bytes())
        if answer.is_error or answer.json()["make"] != "Example":
            raise BenchmarkError(f"/v1/exif answered {answer.status_code}: {answer.text}")

    with httpx2.Client(timeout=60) as client, ThreadPoolExecutor(CLIENTS) as threads:
        post(client, photos[0])
        began_s = time.perf_counter()
        list(threads.map(lambda path: post(client, path), photos))
        ours_s = time.perf_counter() - began_s

    _exiftool(photos[0])
    began_s = time.perf_counter()
    for path in photos:
        _exiftool(path)
    peer_s = time.perf_counter() - began_s
    title = f"exif of {len(photos)} photos, {CLIENTS} clients"
    return Ratio(title, "one ExifTool process per file", ours_s, peer_s, "at least", 10.0)


def _exiftool(path: Path) -> None:
    program = shutil.which("exiftool")
    if program is None:
        raise BenchmarkError("ExifTool is not installed: sudo apt install libimage-exiftool-perl")
    subprocess.run([program, "-json", "-n", str(path)], check=True, capture_output=True)
