"""Editing a YAML text: the value changes, and no other character does."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.runtime.errors import ConfigError
from serve_app.cli.tune.edit import Change, edited
from serve_app.settings import config_folder
from serve_app.validation import Key

SHIPPED = sorted(config_folder().glob("serve*.yaml"))

DEPLOYMENTS: Key = ("applications", 0, "deployments")


@pytest.mark.parametrize(
    ("text", "key", "value", "expected"),
    [
        ("a: 1\n", ("a",), 2, "a: 2\n"),
        ("a: 1 # why\nb: 2\n", ("a",), 10, "a: 10 # why\nb: 2\n"),
        ("a: 'x'\n", ("a",), "y z", "a: y z\n"),
        ("a: x\n", ("a",), "1", "a: '1'\n"),
        ("a: {b: 1,  c: 2}\n", ("a", "b"), 3, "a: {b: 3,  c: 2}\n"),
        ("a: {b: 1}  # c\n", ("a", "c"), 3, "a: {b: 1, c: 3}  # c\n"),
        ("a: {}\n", ("a", "c"), 3, "a: {c: 3}\n"),
        ("a: {\n  b: 1,\n}\n", ("a", "b"), 3, "a: {\n  b: 3,\n}\n"),
        ("a:\nb: 1\n", ("a",), 3, "a: 3\nb: 1\n"),
        ("a:\nb: 1\n", ("a", "c", "d"), 3, "a: {c: {d: 3}}\nb: 1\n"),
        ("a: null # n\n", ("a", "c"), 3, "a: {c: 3} # n\n"),
        ("a:\n  b: 1 # x\n\n# y\nd: 1\n", ("a", "c"), 3, "a:\n  b: 1 # x\n  c: 3\n\n# y\nd: 1\n"),
        ("a:\n  b: 1", ("a", "c"), 3, "a:\n  b: 1\n  c: 3"),
        ("a:\n  - b: 1\n  - b: 2\n", ("a", 0, "c"), 3, "a:\n  - b: 1\n    c: 3\n  - b: 2\n"),
        ("a:\n- b: 1\n", ("a", 1, "b"), 3, "a:\n- b: 1\n- {b: 3}\n"),
        ("a: [{b: 1}]\n", ("a", 1, "b"), 3, "a: [{b: 1}, {b: 3}]\n"),
        ("a: []\n", ("a", 0), 3, "a: [3]\n"),
        ("x: 1\n", ("a", 0, "b"), 3, "x: 1\na: [{b: 3}]\n"),
        ("a: &s {b: 1}\nc: *s\n", ("a", "b"), 2, "a: &s {b: 2}\nc: {b: 1}\n"),
        ("a: &s {b: 1}\nc: *s # t\n", ("c", "b"), 2, "a: &s {b: 1}\nc: {b: 2} # t\n"),
        ("a: &s {b: 1}\nc: *s\nd: *s\n", ("c",), 2, "a: &s {b: 1}\nc: 2\nd: {b: 1}\n"),
        ("a: &n 1\nc: *n\n", ("c",), 2, "a: &n 1\nc: 2\n"),
        ("s: &s {b: 1}\na:\n  <<: *s\n", ("a", "b"), 2, "s: &s {b: 1}\na:\n  <<: *s\n  b: 2\n"),
        ("a:\n  b: [1]\nc: 1\n", ("a",), 2, "a:\n  2\nc: 1\n"),
    ],
)
def test_one_change(text: str, key: Key, value: object, expected: str) -> None:
    """A value is replaced, or added where its mapping or its list ends."""
    assert expected == edited(text, [Change(key, value)])


def test_a_new_entry_of_a_list() -> None:
    """Several keys of an entry that the list lacks make one entry."""
    changes = [Change(("a", 1, "name"), "x"), Change(("a", 1, "n"), 2, "faster")]
    expected = "a:\n  - name: y\n  # cl-serve tune: faster\n  - {name: x, n: 2}\n"
    assert expected == edited("a:\n  - name: y\n", changes)


def test_reasons() -> None:
    """Each reason stands once above its line, in place of those of the run before."""
    text = "a:\n  # mine\n  # cl-serve tune: older\n  b: 1\n  c: {d: 1, e: 2}\n"
    changes = [
        Change(("a", "b"), 2, "8/s"),
        Change(("a", "c", "d"), 2, "9/s"),
        Change(("a", "c", "e"), 3, "9/s"),
    ]
    expected = (
        "a:\n  # mine\n  # cl-serve tune: 8/s\n  b: 2\n  # cl-serve tune: 9/s\n  c: {d: 2, e: 3}\n"
    )
    assert expected == edited(text, changes)


def test_what_can_not_be_changed() -> None:
    """A text that would come out wrong is refused, with the keys to write by hand."""
    text = "a: {b: 1}\na: {b: 2}\n"  # the second one counts, and has to be looked for
    with pytest.raises(ConfigError, match=r"write these values yourself: a\.b"):
        edited(text, [Change(("a", "b"), 5)])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files(path: Path) -> None:
    """Every deployment of the shipped files takes every kind of change, and only lines are new."""
    text = path.read_text(encoding="utf-8")
    document: Any = yaml.safe_load(text)
    changes: list[Change] = []
    for i in range(len(document["applications"][0]["deployments"])):
        entry = (*DEPLOYMENTS, i)
        changes += [
            Change((*entry, "num_replicas"), 7, "of a test"),
            Change((*entry, "ray_actor_options", "num_cpus"), 3.1),
            Change((*entry, "user_config", "exif", "max_batch_size"), 2),
        ]
    graph = ("applications", 0, "args", "graph")
    changes.append(Change((*graph, "face_detection", "num_threads"), 4, "of a test"))
    new = edited(text, changes)
    found: Any = yaml.safe_load(new)["applications"][0]
    assert 4 == found["args"]["graph"]["face_detection"]["num_threads"]
    assert {7} == {entry["num_replicas"] for entry in found["deployments"]}
    assert {3.1} == {entry["ray_actor_options"]["num_cpus"] for entry in found["deployments"]}
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    kept = [line for line in new.splitlines() if line.lstrip().startswith("#")]
    assert comments == [line for line in kept if "cl-serve tune" not in line]
