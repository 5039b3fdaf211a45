"""From form fields to what the graph needs: the original protocol's tasks, and our own."""

from typing import Any

import pytest

from deployments.hls_streaming import Variant
from deployments.runtime.capability import Params, installed_capabilities
from deployments.runtime.errors import ClServeError, InvalidParameterError, UnknownOutputError
from serve_app.config import load_file
from serve_app.graph import Graph
from serve_app.jobs.tasks import _from_form, parse_submission, parse_task
from serve_app.settings import config_folder

Fields = list[tuple[str, str]]

DEFAULT_VARIANTS = [
    {"resolution": 720, "bitrate": 3500},
    {"resolution": 480, "bitrate": 1500},
    {"resolution": 240, "bitrate": 800},
]


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Give the shipped graph."""
    return Graph(load_file(config_folder() / "serve.yaml").args, installed_capabilities())


@pytest.mark.parametrize(
    ("task", "fields", "node_params", "params"),
    [
        ("clip_embedding", [], {"clip_embedding": {"normalize": True}}, {"normalize": True}),
        (
            "dino_embedding",
            [("normalize", "False")],
            {"dino_embedding": {"normalize": False}},
            {"normalize": False},
        ),
        (
            "face_embedding",
            [("normalize", "")],
            {"face_detection": {"cropped": True}, "face_embedding": {"normalize": True}},
            {"normalize": True, "cropped": True},
        ),
        (
            "face_embedding",
            [("cropped", "false"), ("effort", "thorough")],
            {
                "face_detection": {"cropped": False, "effort": "thorough"},
                "face_embedding": {"normalize": True},
            },
            {"normalize": True, "cropped": False, "effort": "thorough"},
        ),
        (
            "face_detection",
            [],
            {"face_detection": {"confidence_threshold": 0.7, "nms_threshold": 0.4}},
            {"confidence_threshold": 0.7, "nms_threshold": 0.4},
        ),
        (
            "face_detection",
            [("confidence_threshold", "0.5"), ("limit", "3")],
            {
                "face_detection": {
                    "confidence_threshold": 0.5,
                    "nms_threshold": 0.4,
                    "limit": 3,
                },
            },
            {"confidence_threshold": 0.5, "nms_threshold": 0.4, "limit": 3},
        ),
        ("hash", [], {"hash": {"algorithm": "sha512"}}, {"algorithm": "sha512"}),
        ("hash", [("algorithm", "md5")], {"hash": {"algorithm": "md5"}}, {"algorithm": "md5"}),
        ("exif", [("tags", "")], {}, {}),
        (
            "exif",
            [("tags", "Make, GPS*")],
            {"exif": {"tags": ["Make", "GPS*"]}},
            {"tags": ["Make", "GPS*"]},
        ),
        (
            "exif",
            [("tags", "Make"), ("tags", "Model")],
            {"exif": {"tags": ["Make", "Model"]}},
            {"tags": ["Make", "Model"]},
        ),
        (
            "image_conversion",
            [("format", "png")],
            {"image_conversion": {"format": "png", "quality": 85}},
            {"format": "png", "quality": 85},
        ),
        (
            "media_thumbnail",
            [("width", "256"), ("height", "")],
            {"media_thumbnail": {"width": 256, "fit": "contain"}},
            {"width": 256, "maintain_aspect_ratio": True},
        ),
        (
            "media_thumbnail",
            [("maintain_aspect_ratio", "False")],
            {"media_thumbnail": {"fit": "fill"}},
            {"maintain_aspect_ratio": False},
        ),
        (
            "media_thumbnail",
            [("fit", "cover")],
            {"media_thumbnail": {"fit": "cover"}},
            {"fit": "cover"},
        ),
        (
            "hls_streaming",
            [("include_original", "true")],
            {"hls_streaming": {"variants": DEFAULT_VARIANTS, "include_original": True}},
            {"variants": DEFAULT_VARIANTS, "include_original": True},
        ),
        (
            "hls_streaming",
            [("variants", '[{"resolution": 120, "bitrate": 100}]'), ("output_absolute_path", "/o")],
            {
                "hls_streaming": {
                    "variants": [{"resolution": 120, "bitrate": 100}],
                    "include_original": False,
                    "output_folder": "/o",
                },
            },
            {
                "variants": [{"resolution": 120, "bitrate": 100}],
                "include_original": False,
                "output_absolute_path": "/o",
            },
        ),
        ("face_alignment", [], {}, {}),
        (
            "clip_text_embedding",
            [("truncate", "true")],
            {"clip_text_embedding": {"truncate": True}},
            {"truncate": True},
        ),
    ],
)
def test_task(
    graph: Graph,
    task: str,
    fields: Fields,
    node_params: dict[str, Any],
    params: dict[str, Any],
) -> None:
    """Texts become typed parameters of the right nodes, with the protocol's defaults and names."""
    parsed = parse_task(graph, task, fields)
    assert (task,) == parsed.outputs
    assert node_params == parsed.node_params
    assert params == parsed.params


@pytest.mark.parametrize(
    ("fields", "outputs", "node_params", "params"),
    [
        ([("outputs", "hash, exif,hash")], ("hash", "exif"), {}, {}),
        ([("outputs", "hash"), ("outputs", "exif,")], ("hash", "exif"), {}, {}),
        (
            [("outputs", "face_embedding"), ("face_detection.limit", "2")],
            ("face_embedding",),
            {"face_detection": {"limit": 2}},
            {"face_detection.limit": 2},
        ),
    ],
)
def test_analyze(
    graph: Graph,
    fields: Fields,
    outputs: tuple[str, ...],
    node_params: dict[str, Any],
    params: dict[str, Any],
) -> None:
    """Several outputs, with dotted parameters, and the capabilities' own defaults."""
    parsed = parse_task(graph, "analyze", fields)
    assert (outputs, node_params, params) == (parsed.outputs, parsed.node_params, parsed.params)


@pytest.mark.parametrize(
    ("task", "fields", "kind", "message"),
    [
        ("nope", [], UnknownOutputError, "unknown task 'nope'; expected analyze, or one of clip_"),
        ("analyze", [("outputs", "hash,nope")], UnknownOutputError, "unknown output 'nope'"),
        ("analyze", [("outputs", ",")], InvalidParameterError, "outputs: missing; expected some"),
        (
            "hash",
            [("algoritm", "md5")],
            InvalidParameterError,
            "algoritm: unknown parameter; hash takes algorithm, perceptual, content, and every job",
        ),
        (
            "face_alignment",
            [("scale", "2")],
            InvalidParameterError,
            "scale: unknown parameter; face_alignment takes confidence_threshold, ",
        ),
        (
            "hash",
            [("outputs", "exif")],
            InvalidParameterError,
            "outputs: unknown parameter; hash takes",
        ),
        (
            "hash",
            [("algorithm", "crc")],
            InvalidParameterError,
            "algorithm: expected 'sha512' or 'md5', got 'crc'",
        ),
        (
            "hash",
            [("content", "perhaps"), ("perceptual", "7")],
            InvalidParameterError,
            "perceptual: expected true or false, got '7'; content: expected true or false, got 'p",
        ),
        ("image_conversion", [], InvalidParameterError, "format: missing; it is required"),
        (
            "image_conversion",
            [("format", "jpg"), ("lossless", "true")],
            InvalidParameterError,
            "lossless: jpg is written with losses only; webp, png and tiff can do",
        ),
        (
            "image_conversion",
            [("format", "png"), ("quality", "1"), ("quality", "2")],
            InvalidParameterError,
            "quality: expected a whole number, got ['1', '2']",
        ),
        (
            "media_thumbnail",
            [("maintain_aspect_ratio", "mostly")],
            InvalidParameterError,
            "maintain_aspect_ratio: expected true or false, got 'mostly'",
        ),
        (
            "media_thumbnail",
            [("maintain_aspect_ratio", "true"), ("fit", "fill")],
            InvalidParameterError,
            "fit: expected this or maintain_aspect_ratio, got both",
        ),
        (
            "hls_streaming",
            [("variants", '[{"resolution": "x", "bitrate": 100}]')],
            InvalidParameterError,
            "variants[0].resolution: expected a whole number, got 'x'",
        ),
        (
            "hls_streaming",
            [("output_folder", "/a"), ("output_absolute_path", "/b")],
            InvalidParameterError,
            "output_folder: expected this or output_absolute_path, got both",
        ),
        (
            "analyze",
            [("outputs", "hash"), ("exif.tags", "Make")],
            InvalidParameterError,
            "exif.tags: unknown parameter; analyze takes hash.algorithm, hash.perceptual, ",
        ),
        (
            "analyze",
            [("outputs", "hash,image_conversion")],
            InvalidParameterError,
            "image_conversion.format: missing; it is required",
        ),
    ],
)
def test_wrong_task(
    graph: Graph,
    task: str,
    fields: Fields,
    kind: type[ClServeError],
    message: str,
) -> None:
    """What is wrong is refused at once, with its name and what was expected."""
    with pytest.raises(kind) as raised:
        parse_task(graph, task, fields)
    assert str(raised.value).startswith(message)


class _Lists(Params):
    """Parameters of every kind of list, as a plugin may have them."""

    plain: tuple[int, ...] = ()
    maybe: list[int] | None = None
    models: tuple[Variant, ...] = ()
    one: int = 0


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("plain", ["1"], ["1"]),
        ("maybe", ["1"], ["1"]),
        ("maybe", ["1", "2"], ["1", "2"]),
        ("models", ["[]"], "[]"),
        ("one", ["1"], "1"),
    ],
)
def test_lists(name: str, values: list[str], expected: str | list[str]) -> None:
    """A list of plain values may be given as one value, as it may in a query."""
    assert expected == _from_form(_Lists, name, values)


def test_submission(graph: Graph) -> None:
    """What every job takes is told from the parameters of its task."""
    fields = [
        ("priority", "9"),
        ("webhook", "http://127.0.0.1/done"),
        ("path", "/photos/a.jpg"),
        ("text", "a car"),
        ("algorithm", "md5"),
        ("text", "a dog"),
    ]
    found = parse_submission(graph, "hash", fields)
    assert parse_task(graph, "hash", [("algorithm", "md5")]) == found.task
    assert (9, "http://127.0.0.1/done") == (found.priority, found.webhook)
    assert ("/photos/a.jpg", ("a car", "a dog")) == (found.path, found.texts)


def test_submission_of_nothing(graph: Graph) -> None:
    """Empty fields, as clients send for what they have no value for, count as not given."""
    names = ("priority", "webhook", "path", "text", "algorithm", "input_absolute_path")
    found = parse_submission(graph, "hash", [(name, "") for name in names])
    assert (5, None, None, ()) == (found.priority, found.webhook, found.path, found.texts)


def test_legacy_input_path(graph: Graph) -> None:
    """The original's name for the path of a video on the server's disk is understood and shown."""
    found = parse_submission(graph, "hls_streaming", [("input_absolute_path", "/videos/a.mp4")])
    assert "/videos/a.mp4" == found.path
    assert "/videos/a.mp4" == found.task.params["input_absolute_path"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([("priority", "11")], "priority: expected a number less than or equal to 10, got '11'"),
        ([("priority", "-1")], "priority: expected a number greater than or equal to 0, got '-1'"),
        ([("priority", "high")], "priority: expected a whole number, got 'high'"),
        ([("priority", "1"), ("priority", "2")], "priority: expected it once, got it 2 times"),
        ([("path", "/a"), ("path", "/b")], "path: expected it once, got it 2 times"),
        ([("webhook", "a"), ("webhook", "b")], "webhook: expected it once, got it 2 times"),
        ([("input_absolute_path", "/a")], "input_absolute_path: unknown parameter; hash takes"),
    ],
)
def test_wrong_submission(graph: Graph, fields: Fields, message: str) -> None:
    """A wrong value of what every job takes is refused as well."""
    with pytest.raises(InvalidParameterError) as raised:
        parse_submission(graph, "hash", fields)
    assert str(raised.value).startswith(message)
