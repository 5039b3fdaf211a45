"""The catalogue: what a file may say, and what its errors tell."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.runtime.errors import ConfigError, UnknownModelError
from deployments.runtime.models import load_catalogue
from serve_app.settings import DEFAULT_CATALOGUE

NAMES = (
    "blazeface_full_range",
    "blazeface_short_range",
    "mobilefacenet",
    "mobilefacenet_w600k",
    "sface",
    "dinov2_vits14",
    "mobileclip_s0_image",
    "mobileclip_s0_text",
    "mobileclip_s0_tokenizer",
)
DELETE = object()
CONVERT = {"sha256": "0" * 64, "size_bytes": 1}


def write(folder: Path, document: object) -> Path:
    """Write a catalogue file and return its path."""
    path = folder / "catalogue.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def changed(entry: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """Return the entry with one dotted key set, or removed with DELETE."""
    entry = copy.deepcopy(entry)
    *parents, last = (int(part) if part.isdigit() else part for part in key.split("."))
    place: Any = entry
    for parent in parents:
        place = place[parent]
    if value is DELETE:
        del place[last]
    else:
        place[last] = value
    return entry


def test_shipped_names() -> None:
    """The shipped catalogue has exactly the documented models, in their order."""
    assert NAMES == tuple(load_catalogue(DEFAULT_CATALOGUE).entries)


def test_shipped_defaults() -> None:
    """The default models are the face graph's three."""
    assert NAMES[:3] == load_catalogue(DEFAULT_CATALOGUE).default_names


def test_shipped_commercial_use() -> None:
    """Every model that permits no commercial use is marked as such."""
    bound = [e.name for e in load_catalogue(DEFAULT_CATALOGUE) if not e.licence.commercial_use]
    expected = ["mobilefacenet_w600k", *NAMES[6:]]
    assert expected == bound


def test_shipped_usable_files() -> None:
    """Converted entries are used as ONNX, the others as they come."""
    catalogue = load_catalogue(DEFAULT_CATALOGUE)
    assert "MobileFaceNet.onnx" == catalogue["mobilefacenet"].usable_filename
    assert "MobileFaceNet.tflite" == catalogue["mobilefacenet"].source_filename
    assert "w600k_mbf.onnx" == catalogue["mobilefacenet_w600k"].usable_filename
    assert "vision_model.onnx" == catalogue["mobileclip_s0_image"].usable_filename


def test_unknown_model_suggests() -> None:
    """A misspelt name is answered with the nearest one."""
    with pytest.raises(UnknownModelError, match="did you mean mobilefacenet"):
        load_catalogue(DEFAULT_CATALOGUE)["mobilefacnet"]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("sha265", "0" * 64, "entries.a.sha265: unknown key"),
        ("sha256", "abc", "entries.a.sha256: String should match pattern"),
        ("sha256", DELETE, "entries.a.sha256: is missing"),
        ("name", "b", "the name is the key itself"),
        ("licence.commercial_use", "perhaps", "entries.a.licence.commercial_use: .*'perhaps'"),
        ("licence.url", DELETE, "entries.a.licence.url: is missing"),
        ("size_bytes", 0, "entries.a.size_bytes: .*greater than or equal to 1; got 0"),
        ("sources", [], "entries.a.sources: .*at least 1 item"),
        ("sources.0", {}, "expected exactly one of pypi, npm, https, file"),
        (
            "sources.0.npm",
            {"package": "p", "version": "1", "member": "m"},
            "expected exactly one of pypi, npm, https, file",
        ),
        ("sources.0.https.url", "http://example.org/a", "must begin with https://.*got "),
        ("sources.0.https.url", "https:///a", "must begin with https://"),
        ("sources.0.https.archive_sha256", "0" * 64, "archive_sha256 needs a member"),
        (
            "sources.0",
            {"pypi": {"package": "p", "version": "1", "member": "m", "kind": "egg"}},
            "sources.0.pypi.kind: Input should be 'wheel' or 'sdist'; got 'egg'",
        ),
        (
            "sources.0",
            {
                "pypi": {
                    "package": "p",
                    "version": "1",
                    "member": "m",
                    "kind": "sdist",
                    "platform": "any",
                }
            },
            "apply to kind: wheel only",
        ),
        ("convert", {**CONVERT, "steps": [{"step": "shrink"}]}, "convert.steps.0.step: .*'shrink'"),
        ("convert", {**CONVERT, "steps": [{"step": "dynamic_batch"}]}, "must be canonical"),
        (
            "convert",
            {
                **CONVERT,
                "steps": [
                    {"step": "dynamic_batch"},
                    {"step": "tflite_to_onnx"},
                    {"step": "canonical"},
                ],
            },
            "tflite_to_onnx must be the first step",
        ),
        ("convert", {"steps": [{"step": "canonical"}], "size_bytes": 1}, "stand together"),
        (
            "convert",
            {"steps": [{"step": "tflite_to_onnx"}, {"step": "canonical"}]},
            "a conversion that must succeed needs the sha256",
        ),
        ("stand_in", True, "the name of a stand_in, and of no other model, ends in _stand_in"),
        ("needs", ["b"], "a: needs: expected entries that need nothing themselves, got 'b'"),
        ("needs", ["a"], "a: needs: expected entries that need nothing themselves, got 'a'"),
    ],
)
def test_wrong_entry(
    tmp_path: Path,
    make_entry: Callable[..., dict[str, Any]],
    key: str,
    value: object,
    told: str,
) -> None:
    """Every mistake in an entry is an error that names the file, the key and what was expected."""
    entry = make_entry(b"x", {"https": {"url": "https://example.org/a"}})
    path = write(tmp_path, {"entries": {"a": changed(entry, key, value)}})
    with pytest.raises(ConfigError, match=told) as caught:
        load_catalogue(path)
    assert str(caught.value).startswith(str(path))


def test_default_needs_a_free_licence(
    tmp_path: Path, make_entry: Callable[..., dict[str, Any]]
) -> None:
    """A model that needs consent can't be installed by default."""
    entry = make_entry(b"x", {"file": {"path": "x"}}, default=True)
    entry["licence"]["commercial_use"] = False
    with pytest.raises(ConfigError, match="needs a licence with commercial_use: true"):
        load_catalogue(write(tmp_path, {"entries": {"a": entry}}))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "the name of a stand_in, and of no other model"),
        ({"stand_in": True, "default": True}, "a stand_in can't be a default"),
    ],
)
def test_stand_ins_say_so(
    tmp_path: Path,
    make_entry: Callable[..., dict[str, Any]],
    more: dict[str, object],
    told: str,
) -> None:
    """An entry named like a stand-in is one, and never a default."""
    entry = make_entry(b"x", {"file": {"path": "x"}}, **more)
    with pytest.raises(ConfigError, match=told):
        load_catalogue(write(tmp_path, {"entries": {"a_stand_in": entry}}))


def test_shipped_catalogue_has_no_stand_ins() -> None:
    """Stand-ins are for tests and benchmarks, which bring a catalogue of their own."""
    assert [] == [entry.name for entry in load_catalogue(DEFAULT_CATALOGUE) if entry.stand_in]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "(top level)"),
        ("entries: [", "is not valid YAML"),
        ("entries: {}\nentries: {}", "the key 'entries' stands more than once"),
        ("models: {}", "models: unknown key"),
        ("entries: {A-b: {}}", "String should match pattern"),
        ("entries: {a: 5}", "got 5"),
    ],
)
def test_wrong_document(tmp_path: Path, text: str, told: str) -> None:
    """A file that is not a catalogue is an error that names it."""
    path = tmp_path / "catalogue.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_catalogue(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    """A catalogue that does not exist is an error that names it."""
    with pytest.raises(ConfigError, match=r"catalogue\.yaml: can't be read: No such file"):
        load_catalogue(tmp_path / "catalogue.yaml")
