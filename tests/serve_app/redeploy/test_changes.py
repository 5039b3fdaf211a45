"""What a changed file changes: by Serve's own rules, named key by key."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.runtime.errors import StackError
from serve_app.config import ServeFile
from serve_app.redeploy import Effect, compare
from tests.cluster.one_machine import document

Edit = Callable[[dict[str, Any]], object]


def file(edit: Edit = lambda _: None) -> ServeFile:
    """Make a small file, edited."""
    edited = copy.deepcopy(document(8000))
    edit(edited)
    return ServeFile(edited, Path("serve.yaml"))


def application(edited: dict[str, Any]) -> dict[str, Any]:
    """Give the part of a document that most edits are about."""
    return edited["applications"][0]


def deployment(edited: dict[str, Any], name: str) -> dict[str, Any]:
    """Give one entry of ``deployments``."""
    return next(entry for entry in application(edited)["deployments"] if entry["name"] == name)


def set_model(edited: dict[str, Any]) -> None:
    """Choose another model."""
    application(edited)["args"]["graph"]["face_detection"]["model"] = "blazeface_short_range"


def add_exif(edited: dict[str, Any]) -> None:
    """Add a node."""
    application(edited)["args"]["graph"]["exif"] = {"needs": ["upload"]}


MODEL_CHANGE = 'args.graph.face_detection.model: "blazeface_full_range" → "blazeface_short_range"'

ROLLING = (Effect.ROLLING, ("(args have changed)",))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda _: None, {}),
        (
            lambda d: deployment(d, "hash").update(num_replicas=3),
            {"hash": (Effect.LIVE, ("num_replicas: (nothing) → 3",))},
        ),
        (
            lambda d: deployment(d, "hash").update(user_config={"hash": {"max_batch_size": 2}}),
            {"hash": (Effect.LIVE, ('user_config: (nothing) → {"hash": {"max_batch_size": 2}}',))},
        ),
        (
            lambda d: deployment(d, "hash")["ray_actor_options"].update(num_cpus=1),
            {"hash": (Effect.ROLLING, ("ray_actor_options.num_cpus: 0.1 → 1",))},
        ),
        (
            set_model,
            {
                "ingress": ROLLING,
                "face_detection": (
                    Effect.ROLLING,
                    (MODEL_CHANGE,),
                ),
                "hash": ROLLING,
            },
        ),
        (
            add_exif,
            {
                "ingress": ROLLING,
                "face_detection": ROLLING,
                "hash": ROLLING,
                "exif": (Effect.NEW, ('args.graph.exif: (nothing) → {"needs": ["upload"]}',)),
            },
        ),
        (
            lambda d: d["logging_config"].update(log_level="DEBUG"),
            {"all": (Effect.LIVE, ('logging_config.log_level: (nothing) → "DEBUG"',))},
        ),
    ],
)
def test_changes(edit: Edit, expected: dict[str, tuple[Effect, tuple[str, ...]]]) -> None:
    """Each edit has the effect on each deployment that Serve gives it."""
    found = compare(file(), file(edit))
    assert expected == {change.deployment: (change.effect, change.keys) for change in found}


def test_removed_node() -> None:
    """A node that is gone takes its deployment with it."""
    found = {change.deployment: change.effect for change in compare(file(add_exif), file())}
    assert found["exif"] is Effect.REMOVED


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda d: d["http_options"].update(port=8001), "http_options"),
        (lambda d: d.update(proxy_location="EveryNode"), "proxy_location"),
        (lambda d: d.update(cluster={"address": "192.168.1.10"}), "cluster"),
        (lambda d: application(d).update(name="other"), "applications[0].name"),
    ],
)
def test_what_takes_a_restart(edit: Edit, named: str) -> None:
    """What Serve reads only once is refused, with what to do instead."""
    with pytest.raises(StackError, match="takes `cl-serve down` and `cl-serve up") as raised:
        compare(file(), file(edit))
    assert named in str(raised.value)
