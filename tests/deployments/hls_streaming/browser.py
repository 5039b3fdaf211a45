"""Plays an HLS stream in headless Chromium with hls.js, and tells what happened.

A server of this process hands out the stream and a page. The page begins with the first variant,
changes to the last one in the middle, and posts a report when the video has ended.
"""

import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployments.runtime.models import ModelStore, load_catalogue

_TESTS = Path(__file__).parents[2]
_WAIT_S = 90  # of which Chromium takes some seconds to start, and more on a busy machine

_MEDIA_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".js": "text/javascript",
}

_PAGE = """<!doctype html>
<video id="video" muted></video>
<script src="/hls.js"></script>
<script>
const video = document.getElementById("video");
const report = {levels: [], played: [], errors: []};
const hls = new Hls({startLevel: 0, maxBufferLength: 1, maxMaxBufferLength: 1});
const send = () => {
  report.currentTime = video.currentTime;
  report.duration = video.duration;
  report.size = [video.videoWidth, video.videoHeight];
  fetch("/report", {method: "POST", body: JSON.stringify(report)});
};
const remember = () => {
  const size = `${video.videoWidth}x${video.videoHeight}`;
  if (report.played.at(-1) !== size) report.played.push(size);
};
hls.on(Hls.Events.MANIFEST_PARSED, (_, data) => {
  report.levels = data.levels.map(level => [level.width, level.height, level.bitrate]);
  hls.loadLevel = 0;
  video.play();
});
hls.on(Hls.Events.ERROR, (_, data) => {
  // A change of level ends the loading of what it makes useless.
  if (data.details === Hls.ErrorDetails.INTERNAL_ABORTED) return;
  report.errors.push(`${data.fatal ? "fatal " : ""}${data.details}`);
  if (data.fatal) send();
});
let switched = false;
video.addEventListener("timeupdate", () => {
  remember();
  if (!switched && video.currentTime > video.duration / 3) {
    switched = true;
    hls.currentLevel = report.levels.length - 1;
  }
});
video.addEventListener("resize", remember);
video.addEventListener("ended", send);
video.addEventListener("error", () => { report.errors.push(video.error.message); send(); });
hls.loadSource("/stream/adaptive.m3u8");
hls.attachMedia(video);
</script>
"""


def play(folder: Path) -> dict[str, Any]:
    """Play the stream in a folder to its end.

    Returns:
        ``levels`` ([width, height, bit rate] each), ``played`` (sizes in order, as "WxH"),
        ``size`` at the end, ``currentTime`` and ``duration`` in seconds, and ``errors``.

    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("this test plays in Chromium: `sudo apt install chromium`")
    player = ModelStore(load_catalogue(_TESTS / "hls.yaml")).pull("hls_js")
    reports: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(_Handler):
        stream = folder
        script = player
        told = reports

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--mute-audio", "--no-first-run"]
        flags += ["--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}"]
        browser = subprocess.Popen(
            [chromium, *flags, f"http://127.0.0.1:{server.server_port}/"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return reports.get(timeout=_WAIT_S)
        except queue.Empty:
            pytest.fail(f"the page did not report within {_WAIT_S} s")
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    stream: Path
    script: Path
    told: "queue.Queue[dict[str, Any]]"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer(_PAGE.encode(), "text/html")
        elif self.path == "/hls.js":
            self._answer(self.script.read_bytes(), _MEDIA_TYPES[".js"])
        elif (path := self.stream / Path(self.path).name).is_file():
            self._answer(path.read_bytes(), _MEDIA_TYPES[path.suffix])
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"", "text/plain")
        self.told.put(report)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def _answer(self, body: bytes, media_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
