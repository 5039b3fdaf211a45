"""Variants in the store: their names, and when one may be used."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.runtime.errors import (
    ConfigError,
    ModelIntegrityError,
    ModelNotInstalledError,
    ModelNotValidatedError,
    UnknownModelError,
)
from deployments.runtime.models import (
    Attempt,
    Measure,
    ModelStatus,
    ModelStore,
    base_name,
    split_name,
)
from tests.deployments.runtime.variants_support import attempt, keep

CONTENT = b"weights"
NAME = "a@float16"
COMMAND = "cl-serve quantize a --calibration FOLDER --method float16"


@pytest.fixture
def store(tmp_path: Path, make_store: Callable[..., ModelStore], make_entry: Any) -> ModelStore:  # noqa: ANN401 - a function of many forms
    """A store with one model installed."""
    (tmp_path / "a.onnx").write_bytes(CONTENT)
    store = make_store({"a": make_entry(CONTENT, {"file": {"path": "a.onnx"}})})
    store.pull("a")
    return store


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The file of a variant."""
    path = tmp_path / "small.onnx"
    path.write_bytes(b"small")
    return path


@pytest.mark.parametrize(
    ("name", "expected"), [("a", ("a", None)), ("a@int8", ("a", "int8")), ("a@", ("a", ""))]
)
def test_names(name: str, expected: tuple[str, str | None]) -> None:
    """A name is that of an entry, and behind an @ that of a variant."""
    assert expected == split_name(name)
    assert expected[0] == base_name(name)


@pytest.mark.parametrize("name", ["a@int4", "a@", "a@float16@int8"])
def test_unknown_variant(store: ModelStore, name: str) -> None:
    """A variant that nobody can make is refused with those that there are."""
    with pytest.raises(UnknownModelError, match="a@ followed by one of int8, int8_dynamic, float"):
        store.path(name)


def test_entry_of_a_variant(store: ModelStore) -> None:
    """A variant's contract and licence are those of its model."""
    assert store.catalogue["a"] is store.catalogue[NAME]


@pytest.mark.parametrize(
    ("made", "passed", "verdict"),
    [
        (attempt(), True, "passed: smaller"),
        (attempt(speed_ratio=2.0), True, "passed: faster and smaller"),
        (attempt(speed_ratio=1.05, size_bytes=100), True, "passed: faster"),
        (attempt(speed_ratio=1.04, size_bytes=91), False, "failed: no gain"),
        (attempt(cosine=0.99), True, "passed: smaller"),
        (attempt(cosine=0.98), False, "failed: mean cosine 0.9800, at least 0.99 is right"),
        (attempt(cosine=math.nan), False, "failed: mean cosine nan, at least 0.99 is right"),
        (
            Attempt(variant="int8", failure="no layer", base_size_bytes=1),
            False,
            "not made: no layer",
        ),
    ],
)
def test_verdict(made: Attempt, passed: bool, verdict: str) -> None:  # noqa: FBT001 - a column
    """A variant passes when it agrees in every respect, and is faster or smaller."""
    assert (passed, verdict) == (made.passed, made.verdict)


def test_one_measure_of_several_fails() -> None:
    """What is good on average fails by its worst case."""
    worst = Measure(name="worst cosine", value=0.9, least=0.97)
    made = attempt(agreement=(Measure(name="mean cosine", value=1, least=0.99), worst))
    assert (False, "failed: worst cosine 0.9000, at least 0.97 is right") == (
        made.passed,
        made.verdict,
    )


def test_use(store: ModelStore, small: Path) -> None:
    """A variant that passed is used, counted and listed like a model."""
    report = keep(store, "a", small, attempt())
    assert b"small" == store.path(NAME).read_bytes()
    assert {"a": ModelStatus.INSTALLED, NAME: ModelStatus.INSTALLED} == store.verify()
    assert (50, len(CONTENT)) == (store.size_bytes(NAME), store.size_bytes("a"))
    assert [report] == store.variants("a").reports()
    assert NAME == report.name
    told = json.loads(store.path(NAME).with_suffix(".json").read_text())["attempts"]
    assert [(True, "passed: smaller")] == [(row["passed"], row["verdict"]) for row in told]


def test_newer_one_replaces_it(store: ModelStore, small: Path) -> None:
    """Quantising again leaves one variant of a kind, the newer one."""
    keep(store, "a", small, attempt())
    small.write_bytes(b"smaller")
    newer = keep(store, "a", small, attempt(size_bytes=40))
    assert b"smaller" == store.path(NAME).read_bytes()
    assert [newer] == store.variants("a").reports()


def test_missing(store: ModelStore) -> None:
    """A variant that is not here is missed with the command that makes it."""
    with pytest.raises(ModelNotInstalledError, match=f"has not been made .* with: {COMMAND}$"):
        store.path(NAME)
    assert ModelStatus.NOT_INSTALLED == store.status(NAME)


def test_missing_model(make_store: Callable[..., ModelStore], make_entry: Any) -> None:  # noqa: ANN401 - a function of many forms
    """Where the model itself is missing, that is what is to be installed first."""
    store = make_store({"a": make_entry(CONTENT, {"file": {"path": "a.onnx"}})})
    with pytest.raises(ModelNotInstalledError, match=r"cl-serve models pull a$"):
        store.path(NAME)


def test_model_is_fetched_for_its_variant(store: ModelStore) -> None:
    """A machine of a cluster asks for the model, never for the variant, which nobody can send."""
    store.path("a").unlink()
    asked: list[str] = []

    def fetch(store: ModelStore, name: str) -> None:
        asked.append(name)
        store.pull(name)

    store.fetch = fetch
    with pytest.raises(ModelNotInstalledError, match="has not been made"):
        store.path(NAME)
    assert ["a"] == asked


def test_model_has_changed(
    tmp_path: Path,
    store: ModelStore,
    small: Path,
    make_store: Callable[..., ModelStore],
    make_entry: Any,  # noqa: ANN401 - a function of many forms
) -> None:
    """What was made from another file of the model is of no use."""
    keep(store, "a", small, attempt())
    (tmp_path / "a.onnx").write_bytes(b"newer weights")
    newer = make_store({"a": make_entry(b"newer weights", {"file": {"path": "a.onnx"}})})
    newer.pull("a")
    with pytest.raises(ModelNotInstalledError, match=f"from another file .* again with: {COMMAND}"):
        newer.path(NAME)
    assert ModelStatus.NOT_INSTALLED == newer.status(NAME)


def test_damaged(store: ModelStore, small: Path) -> None:
    """A damaged variant is moved out of use and told, and after that it is missing."""
    keep(store, "a", small, attempt())
    store.path(NAME).write_bytes(b"smell")
    assert ModelStatus.CORRUPT == store.status(NAME)
    with pytest.raises(ModelIntegrityError, match=f"'a@float16' is corrupt .* {COMMAND}"):
        store.path(NAME)
    assert ModelStatus.NOT_INSTALLED == store.status(NAME)


def test_damaged_report(store: ModelStore, small: Path) -> None:
    """Without a report that can be read nobody knows what the file is."""
    keep(store, "a", small, attempt())
    store.path(NAME).with_suffix(".json").write_text("{")
    with pytest.raises(ModelNotInstalledError):
        store.path(NAME)
    assert len(CONTENT) == store.size_bytes(NAME)


def test_failed_validation(store: ModelStore, small: Path) -> None:
    """A variant that failed is used by those alone who say that they want it."""
    keep(store, "a", small, attempt(cosine=0.5))
    with pytest.raises(
        ModelNotValidatedError, match=r"mean cosine 0.5000.*allow_unvalidated: true"
    ):
        store.path(NAME)
    assert b"small" == store.path(NAME, allow_unvalidated=True).read_bytes()


def test_export(tmp_path: Path, store: ModelStore, small: Path) -> None:
    """A variant is not exported: the message says how another machine gets one."""
    keep(store, "a", small, attempt())
    with pytest.raises(ConfigError, match=r"a@float16: variants are .* cl-serve quantize a "):
        store.export(["a", NAME], tmp_path / "models.tar")
