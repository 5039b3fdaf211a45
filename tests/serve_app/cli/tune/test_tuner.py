"""Tuning a whole file with real models: what is measured, on how much, and what comes out."""

import pytest

from deployments.runtime.errors import StackError
from deployments.runtime.types import Upload
from serve_app.cli.tune.bench import FINALISTS, Pace
from serve_app.cli.tune.choice import Goal
from serve_app.cli.tune.tuner import Machine, Tuner
from tests.serve_app.cli.tune.conftest import WriteFile

INSTANT = Pace(warm_up_s=0.0, window_s=0.05, requests=1, rounds=1, batch_sizes=(1, 4))
ONE_CORE = Machine(cores=1, memory_mb=3000)
IN_INGRESS = {"ingress": ["face_detection", "face_alignment", "face_embedding"]}


class Told:
    """What somebody who waits is told."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.expected = 0
        self.titles: list[str] = []

    def expect(self, count: int) -> None:
        """Count."""
        self.expected += count

    def step(self, title: str) -> None:
        """Note."""
        self.titles.append(title)


def test_throughput(write_file: WriteFile, upload: Upload) -> None:
    """Every candidate is measured, then the batches of each node; nothing is told twice."""
    told = Told()
    tuner = Tuner(write_file(hosts=IN_INGRESS), upload, Machine(2, 8000))
    (found,) = tuner.tune(Goal.THROUGHPUT, INSTANT, told)
    assert ("face_detection", "face_embedding") == tuner.outputs
    assert "ingress" == found.name
    assert found.cost_ms > 0
    titles = [trial.title for trial in found.trials]
    assert {
        "1 process",
        "2 processes",
        "1 process × 2 workers",
        "1 process × 2 workers × 2 batches",
        "1 process × 2 threads",
        *(f"face_detection, batches of {size}" for size in (1, 4, 16)),
        *(f"face_embedding, batches of {size}" for size in (1, 4, 16)),
    } == set(titles)
    assert len(titles) == len(set(titles))
    assert 4 == len(found.others)
    assert all(trial.figures and trial.figures.per_s > 0 for trial in found.trials)
    assert "what a request costs" == told.titles[0]
    assert 1 + 5 + FINALISTS + 6 <= len(told.titles) == told.expected


def test_latency(write_file: WriteFile, upload: Upload) -> None:
    """For a single user all ways to use the cores are tried, and batches stay as they are."""
    file = write_file(graph={"face_detection": {"needs": ["image"]}})
    (found,) = Tuner(file, upload, Machine(2, 8000)).tune(Goal.LATENCY, INSTANT, Told())
    assert "face_detection" == found.name
    assert {
        "1 process",
        "2 processes",
        "1 process × 2 workers",
        "1 process × 2 workers × 2 batches",
        "1 process × 2 threads",
    } == {trial.title for trial in found.trials}
    assert 16 == found.new.nodes["face_detection"].max_batch_size


def test_shares_of_cores(write_file: WriteFile, upload: Upload) -> None:
    """A deployment gets no more of the cores than its part of a request, rounded up."""
    file = write_file(hosts={"faces": ["face_detection", "face_alignment"]})
    found = Tuner(file, upload, Machine(1, 8000)).tune(Goal.THROUGHPUT, INSTANT, Told())
    assert {"faces", "face_embedding"} == {tuned.name for tuned in found}
    assert found[0].cost_ms >= found[1].cost_ms
    for tuned in found:
        assert ["1 process"] == [trial.title for trial in tuned.trials if "," not in trial.title]


def test_what_does_not_fit(write_file: WriteFile, upload: Upload) -> None:
    """Settings that need more memory than there is are not tried, and the present one is left."""
    file = write_file({"name": "ingress", "num_replicas": 40}, hosts=IN_INGRESS)
    (found,) = Tuner(file, upload, ONE_CORE).tune(Goal.THROUGHPUT, INSTANT, Told())
    first = found.trials[0]
    assert ("40 processes", None) == (first.title, first.figures)
    assert "may have 3,000" in first.note
    assert 1 == found.new.replicas
    (replicas, *_) = found.changes(file)
    assert (1, True) == (
        replicas.value,
        replicas.reason.endswith("too much memory with 40 processes"),
    )


def test_nothing_fits(write_file: WriteFile, upload: Upload) -> None:
    """Without memory for one replica it is refused, with what is needed and what to do."""
    tuner = Tuner(write_file(hosts=IN_INGRESS), upload, Machine(1, 50))
    with pytest.raises(
        StackError, match=r"ingress: 1 process needs \d+ MB and may have 50 .*End other"
    ):
        tuner.tune(Goal.THROUGHPUT, INSTANT, Told())


def test_what_scales_by_itself(write_file: WriteFile, upload: Upload) -> None:
    """A deployment that scales keeps its number of replicas, however many that may be."""
    scaling = {"min_replicas": 0, "max_replicas": 3}
    file = write_file(
        {"name": "faces", "autoscaling_config": scaling},
        hosts={"faces": IN_INGRESS["ingress"]},
    )
    (found,) = Tuner(file, upload, ONE_CORE).tune(Goal.THROUGHPUT, INSTANT, Told())
    assert 1 == found.old.replicas == found.new.replicas
    assert [] == [c for c in found.changes(file) if c.key[-1] == "num_replicas"]


def test_what_is_left_out(write_file: WriteFile, upload: Upload) -> None:
    """What can't be measured here is named with the reason, and refused where nothing is left."""
    file = write_file(
        {"name": "faces", "ray_actor_options": {"label_selector": {"role": "gpu"}}},
        hosts={"faces": IN_INGRESS["ingress"]},
    )
    tuner = Tuner(file, upload, ONE_CORE)
    assert {"faces": "it runs on a GPU, or on machines that the file chooses"} == tuner.left_out
    with pytest.raises(StackError, match="nothing of it can be measured here\n  faces: it runs"):
        tuner.tune(Goal.THROUGHPUT, INSTANT, Told())


def test_models_that_are_missing(write_file: WriteFile, upload: Upload) -> None:
    """A node whose model is not installed is left out, and so is what needs it."""
    graph = {
        "face_detection": {"needs": ["image"]},
        "dino_embedding": {"needs": ["image"], "model": "dinov2_vits14"},
    }
    file = write_file(graph=graph, models={"cache": "models"})  # an empty folder
    tuner = Tuner(file, upload, ONE_CORE)
    assert () == tuner.outputs
    assert {
        "face_detection": "blazeface_full_range is not installed",
        "dino_embedding": "dinov2_vits14 is not installed",
    } == tuner.left_out
