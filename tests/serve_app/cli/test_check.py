"""``cl-serve check``: what it shows of a right file, and of wrong ones."""

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from serve_app.cli.check import check
from serve_app.cli.memory import STACK_MB, replica_mb
from serve_app.settings import config_folder
from tests.stand_ins import CLIP_IMAGE, DINO, install_stand_ins

BROKEN = Path(__file__).parents[1] / "broken"


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is installed; the terminal is one that people have."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))
    monkeypatch.setenv("COLUMNS", "80")


def run(*files: Path) -> Result:
    """Check files."""
    return CliRunner().invoke(check, [str(file) for file in files])


def write(folder: Path, args: dict[str, object], **others: object) -> Path:
    """Write a file with these ``args``; ``others`` are ``deployments`` and ``cluster``."""
    application = {"import_path": "serve_app.app:build", "args": args}
    application["deployments"] = others.pop("deployments", [])
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump({"applications": [application], **others}, sort_keys=False))
    return path


def test_default_file() -> None:
    """Without a name the shipped file is checked: its tree, its models and the commands."""
    result = run()
    assert (0, "") == (result.exit_code, result.stderr)
    for line in (
        "├── this machine alone: cluster.address is 127.0.0.1",
        "├── ingress  2 replicas, 0.1 CPU each",
        "│   ├── face_alignment ← image, face_detection",
        "│   │   ├── model mobilefacenet, 4 MB, to be fetched",
        "│   │   ├── model mobileclip_s0_image, 46 MB, to be fetched, needs your consent",
        "  cl-serve models pull blazeface_full_range mobilefacenet dinov2_vits14",
        "  cl-serve models pull mobileclip_s0_image mobileclip_s0_text --accept-licence",
    ):
        assert line in result.stdout.splitlines()


def test_every_kind_of_deployment(tmp_path: Path) -> None:
    """Scaling, placement, batching and who may join are shown as the file has them."""
    deployments = [
        {
            "name": "face_detection",
            "autoscaling_config": {"min_replicas": 0, "max_replicas": 3},
            "ray_actor_options": {
                "num_cpus": 2,
                "num_gpus": 0.5,
                "accelerator_type": "T4",
                "resources": {"pi": 1},
                "label_selector": {"role": "gpu"},
                "fallback_strategy": [{"label_selector": {"role": "pi"}}],
            },
            "user_config": {
                "face_detection": {
                    "max_batch_size": 8,
                    "batch_wait_timeout_s": 0.005,
                    "max_concurrent_batches": 2,
                }
            },
        },
        {"name": "hash", "num_replicas": "auto"},
        {
            "name": "exif",
            "num_replicas": "auto",
            "autoscaling_config": {"max_replicas": 4},
        },
    ]
    graph = {
        "face_detection": {"needs": ["image"]},
        "hash": {"needs": ["upload"]},
        "exif": {"needs": ["upload"]},
    }
    path = write(
        tmp_path,
        {"graph": graph},
        deployments=deployments,
        cluster={"address": "192.168.1.20", "port": 7000},
    )
    result = run(path)
    assert 0 == result.exit_code
    told = " ".join(result.stdout.replace("│", " ").split())
    for part in (
        "other machines join at 192.168.1.20:7000",
        "ingress 1 replica, 1 CPU each",
        "HTTP only",
        "face_detection 0–3 replicas, 2 CPU each, 0.5 GPU each, accelerator T4, 1 pi each, on",
        "nodes with role=gpu, elsewhere when there is none",
        "batches of up to 8, 2 at once; an idle model waits 5 ms for more",
        "hash 1–100 replicas",
        "exif 1–4 replicas",
    ):
        assert part in told


def test_installed_models(tmp_path: Path) -> None:
    """What is installed is said so, what is damaged too, and the commands name the file's cache."""
    store = install_stand_ins(tmp_path)
    image = store.path(CLIP_IMAGE)
    image.write_bytes(b"damaged")
    graph = {
        "dino_embedding": {"needs": ["image"], "model": DINO},
        "clip_embedding": {"needs": ["image"], "model": CLIP_IMAGE},
    }
    models = {"catalogue": str(store.catalogue.path), "cache": str(store.cache)}
    path = write(tmp_path, {"graph": graph, "models": models})
    result = run(path)
    assert 0 == result.exit_code
    assert re.search(rf"model {DINO}, .* MB, installed", result.stdout)
    assert re.search(rf"model {CLIP_IMAGE}, .* MB,\s.*damaged, to be fetched", result.stdout)
    options = f"--catalogue {store.catalogue.path} --cache {store.cache}"
    assert f"  cl-serve models {options} pull {CLIP_IMAGE}" in result.stdout.splitlines()
    assert b"damaged" == image.read_bytes()


def test_nothing_to_fetch(tmp_path: Path) -> None:
    """A graph without models needs none."""
    result = run(write(tmp_path, {"graph": {"hash": {"needs": ["upload"]}}}))
    assert (0, True) == (result.exit_code, "Every model is installed." in result.stdout)


def test_several_files(tmp_path: Path) -> None:
    """One wrong file doesn't keep the others from being shown; the exit code tells of it."""
    cycle, missing = BROKEN / "wrong_edge.yaml", tmp_path / "missing.yaml"
    result = run(cycle, config_folder() / "serve.yaml", missing)
    assert 1 == result.exit_code
    assert f"{cycle} is wrong\n{cycle}:15: applications[0].args.graph" in result.stderr
    assert f"{missing}: can't be read" in result.stderr
    assert "serve.yaml is right" in result.stdout


@pytest.mark.parametrize(
    ("model_bytes", "nodes", "serves_http", "measured_mb"),
    [
        ([], 1, False, 65),  # hls_streaming
        ([2_088_624, 5_200_000], 10, True, 158),  # an ingress with the face models
        ([2_088_624, 5_200_000, 86_500_000, 45_400_000], 10, True, 313),  # and with embeddings
        ([169_700_000], 1, False, 201),
    ],
)
def test_estimate_is_near_what_was_measured(
    model_bytes: list[int],
    nodes: int,
    serves_http: bool,  # noqa: FBT001 - a column of the table
    measured_mb: float,
) -> None:
    """The formula is within a fifth of every replica that was measured."""
    estimated = replica_mb(model_bytes, nodes, serves_http=serves_http)
    assert pytest.approx(measured_mb, rel=0.2) == estimated


def test_estimate_of_everything(tmp_path: Path) -> None:
    """The sum is that of its rows: Ray and Serve, and each replica; a range where it scales."""
    deployments = [{"name": "hash", "autoscaling_config": {"min_replicas": 0, "max_replicas": 2}}]
    path = write(tmp_path, {"graph": {"hash": {"needs": ["upload"]}}}, deployments=deployments)
    ingress, node = replica_mb([], 0, serves_http=True), replica_mb([], 1, serves_http=False)
    least, most = STACK_MB + ingress, STACK_MB + ingress + 2 * node
    (line,) = [line for line in run(path).stdout.splitlines() if line.split()[:1] == ["All"]]
    assert f"{round(least, -1):,.0f}–{round(most, -1):,.0f}" == line.split()[-1]
