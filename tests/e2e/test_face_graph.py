"""The face graph on a real cluster: over HTTP and over handles, good input and bad."""

import asyncio
import contextlib
import io
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import msgpack
import numpy as np
import psutil
import pytest
from PIL import Image

from deployments.face_alignment import FaceAlignment
from deployments.face_detection import FaceDetection, FaceDetectionParams
from deployments.face_embedding import FaceEmbedding, FaceEmbeddings
from deployments.runtime.errors import CorruptMediaError, UnknownOutputError
from deployments.runtime.random_media import ImageGenerator
from serve_app.config import ServeFile
from serve_app.handles import Client
from serve_app.stack import RunningStack

Read = Callable[[str], bytes]


def embed(http: httpx2.Client, photo: bytes, **params: str) -> list[dict[str, Any]]:
    """Embed the faces of a photo over HTTP."""
    answer = http.post("/v1/face_embedding", content=photo, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["faces"]


def vector(face: dict[str, Any]) -> np.ndarray:
    """Return the embedding of a face from JSON."""
    return np.array(face["embedding"], np.float32)


def test_same_and_different_persons(http: httpx2.Client, handles: Client, read: Read) -> None:
    """Over HTTP and handles alike, one person's photos are near and another's far."""
    names = ("obama", "obama2", "obama3", "biden")
    over_http = {name: vector(embed(http, read(name))[0]) for name in names}
    over_handle = {
        name: handles.run(FaceEmbedding, read(name)).faces[0].embedding for name in names
    }
    for name in names:
        assert over_http[name].shape == (192,)
        np.testing.assert_allclose(over_handle[name], over_http[name], atol=1e-5)
    first, second, third, other = (over_http[name] for name in names)
    for one, two in ((first, second), (first, third), (second, third)):
        assert float(one @ two) >= 0.6
    for one in (first, second, third):
        assert float(one @ other) <= 0.3


def test_detection_over_http_and_handle(http: httpx2.Client, handles: Client, read: Read) -> None:
    """Boxes and landmarks agree too, and parameters reach the node over both."""
    photo = read("obama_partial_face")
    params = {"effort": "thorough", "confidence_threshold": "0.5"}
    answer = http.post("/v1/face_detection", content=photo, params=params).json()
    typed = FaceDetectionParams(effort="thorough", confidence_threshold=0.5)
    detected = handles.run(FaceDetection, photo, typed)
    assert len(answer["faces"]) == len(detected.faces)
    for left, right in zip(answer["faces"], detected.faces, strict=True):
        assert left["box"]["x1"] == pytest.approx(right.box.x1, abs=1e-5)
        assert left["confidence"] == pytest.approx(right.confidence, abs=1e-5)
    assert (answer["image_width"], answer["image_height"]) == (
        detected.image_width,
        detected.image_height,
    )


def test_async_handles(handles: Client, read: Read) -> None:
    """Many asynchronous calls at once agree with one synchronous call."""
    expected = handles.run(FaceEmbedding, read("obama")).faces[0].embedding

    async def ask_often() -> list[FaceEmbeddings]:
        calls = (handles.run_async(FaceEmbedding, read("obama")) for _ in range(12))
        return list(await asyncio.gather(*calls))

    for result in asyncio.run(ask_often()):
        np.testing.assert_allclose(result.faces[0].embedding, expected, atol=1e-5)


def test_handle_errors_are_the_tree(handles: Client, read: Read) -> None:
    """Failures come over a handle as the same exceptions, partial results survive."""
    with pytest.raises(CorruptMediaError):
        handles.run(FaceDetection, read("obama")[:20_000])
    with pytest.raises(UnknownOutputError, match="unknown output 'faces'"):
        handles.analyze(read("obama"), ["faces"])
    results = handles.analyze(read("obama"), [FaceDetection, FaceAlignment])
    assert len(results.of(FaceDetection).faces) == len(results.of(FaceAlignment).crops) == 1


def test_analyze_and_msgpack(http: httpx2.Client, read: Read) -> None:
    """Msgpack carries embeddings as raw float32, equal to JSON's."""
    url = "/v1/analyze?outputs=face_detection,face_embedding"
    plain = http.post(url, content=read("obama")).json()["outputs"]
    accept = {"accept": "application/msgpack"}
    packed = msgpack.unpackb(http.post(url, content=read("obama"), headers=accept).content)
    binary = packed["outputs"]["face_embedding"]["faces"][0]["embedding"]
    assert len(binary) == 4 * 192
    np.testing.assert_allclose(
        np.frombuffer(binary, "<f4"),
        vector(plain["face_embedding"]["faces"][0]),
        atol=1e-6,
    )
    assert len(plain["face_detection"]["faces"]) == 1


def test_several_files(http: httpx2.Client, read: Read) -> None:
    """Each file of a request is answered for itself."""
    files = [
        ("files", ("one.jpg", read("obama"))),
        ("files", ("two.txt", b"no picture")),
        ("files", ("three.jpg", read("biden"))),
    ]
    one, two, three = http.post("/v1/face_embedding", files=files).json()["results"]
    assert [one["filename"], two["filename"], three["filename"]] == [
        "one.jpg",
        "two.txt",
        "three.jpg",
    ]
    assert len(one["result"]["faces"]) == len(three["result"]["faces"]) == 1
    assert two["problem"]["type"] == "urn:cl-ml-serve:problem:unsupported-media"


def test_many_clients(http: httpx2.Client, read: Read) -> None:
    """Concurrent clients each get their own photo's answer."""
    expected = {name: vector(embed(http, read(name))[0]) for name in ("obama", "biden")}

    def ask(name: str) -> float:
        return float(vector(embed(http, read(name))[0]) @ expected[name])

    with ThreadPoolExecutor(8) as pool:
        cosines = list(pool.map(ask, ["obama", "biden"] * 16))
    assert min(cosines) > 0.9999


def image_bytes(mode: str, form: str, size: tuple[int, int] = (64, 48)) -> bytes:
    """Encode a plain picture."""
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, format=form)
    return buffer.getvalue()


def animated_gif() -> bytes:
    """Encode two frames."""
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="gif", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def declared_size(width: int, height: int) -> bytes:
    """Write a PNG header that declares a size, and no pixels."""
    import struct  # noqa: PLC0415
    import zlib  # noqa: PLC0415

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        pytest.param(b"", 400, "empty-input", id="empty"),
        pytest.param(b"hello, I am text" * 20, 415, "unsupported-media", id="text"),
        pytest.param(ImageGenerator().encode()[:5000], 422, "corrupt-media", id="truncated"),
        pytest.param(declared_size(30_000, 30_000), 413, "too-large", id="30,000 × 30,000"),
        pytest.param(image_bytes("RGB", "png", (1, 1)), 200, None, id="1 × 1"),
        pytest.param(animated_gif(), 200, None, id="animated"),
        pytest.param(ImageGenerator().encode(), 200, None, id="no face"),
        pytest.param(image_bytes("L", "jpeg"), 200, None, id="grey"),
        pytest.param(image_bytes("RGBA", "png"), 200, None, id="alpha"),
        pytest.param(image_bytes("CMYK", "jpeg"), 200, None, id="CMYK"),
        pytest.param(image_bytes("I;16", "tiff"), 200, None, id="16 bits"),
    ],
)
def test_unusual_input(
    http: httpx2.Client,
    read: Read,
    content: bytes,
    status: int,
    kind: str | None,
) -> None:
    """Unusual input gives no faces or a clear problem, and the next request works."""
    answer = http.post("/v1/face_embedding", content=content)
    assert answer.status_code == status, answer.text
    if kind is None:
        assert answer.json()["faces"] == []
    else:
        assert answer.json()["type"] == f"urn:cl-ml-serve:problem:{kind}"
        assert answer.headers["x-request-id"]
    assert len(embed(http, read("obama"))) == 1


def test_request_id_once(http: httpx2.Client) -> None:
    """Every response has one request id, the client's own where it sent one."""
    answer = http.get("/healthz", headers={"x-request-id": "mine-1"})
    assert answer.headers.get_list("x-request-id") == ["mine-1"]
    assert len(http.get("/healthz").headers.get_list("x-request-id")) == 1


def replicas(running: RunningStack) -> set[int]:
    """Ids of the processes that serve; Ray's spare workers come and go."""
    found: set[int] = set()
    for process in running.mark.processes():
        with contextlib.suppress(psutil.Error):
            if "".join(process.cmdline()).startswith("ray::ServeReplica"):
                found.add(process.pid)
    return found


def test_tuning_changes_live(
    http: httpx2.Client,
    read: Read,
    running: RunningStack,
    serve_file: ServeFile,
) -> None:
    """A changed threshold in the YAML takes effect while requests run, without a restart."""
    import copy  # noqa: PLC0415
    import time  # noqa: PLC0415

    raw = copy.deepcopy(serve_file.raw)
    changed = copy.deepcopy(raw)
    for deployment in changed["applications"][0]["deployments"]:
        tuning = deployment.get("user_config", {}).get("face_detection")
        if tuning is not None:
            tuning["params"] = {"confidence_threshold": 1.0}
    before = replicas(running)

    def wait_for(faces: int) -> None:
        for _ in range(200):
            if len(embed(http, read("obama"))) == faces:
                return
            time.sleep(0.1)
        pytest.fail(f"never saw {faces} faces")

    with running.serve_api() as api:
        api.put(changed)
        wait_for(0)
        api.put(raw)
        wait_for(1)
    assert before == replicas(running)


def test_strangers_are_refused(running: RunningStack) -> None:
    """Without the secret nobody deploys code through the dashboard."""
    dashboard = f"http://127.0.0.1:{running.ports['dashboard']}"
    answer = httpx2.get(f"{dashboard}/api/serve/applications/")
    assert answer.status_code == 401


def test_sockets_are_private(running: RunningStack) -> None:
    """Nobody else may enter the folder that workers are asked for in, and HAProxy lies in."""
    assert 0o700 == stat.S_IMODE(Path(running.folder).stat().st_mode)
