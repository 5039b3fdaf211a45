"""docs/quantization.md: its commands in their order, and its YAML."""

import shutil
from pathlib import Path

import yaml

from deployments.runtime.models import ModelStore
from serve_app.schema import NodeSpec
from serve_app.settings import config_folder
from tests.e2e.blocks import ROOT, blocks_of, run

GUIDE = ROOT / "docs" / "quantization.md"
SOURCES = (ROOT / "deployments" / "runtime" / "models").glob("*.py")


def test_commands(tmp_path: Path, store: ModelStore, photos: Path) -> None:
    """A reader who runs each command has a variant, sees it, and may select it."""
    for name in ("blazeface_full_range", "mobilefacenet"):
        place = store.path(name).parent
        shutil.copytree(place, tmp_path / "cache" / "cl-ml-serve" / "models" / name / place.name)
    blocks = list(blocks_of(GUIDE))
    (fragment,) = (yaml.safe_load(block.code) for block in blocks if block.language == "yaml")
    ((node, spec),) = fragment.items()
    raw = yaml.safe_load((config_folder() / "serve.yaml").read_text(encoding="utf-8"))
    raw["applications"][0]["args"]["graph"][node] = NodeSpec.model_validate(spec).model_dump(
        exclude_unset=True, mode="json"
    )
    (photos.parent / "my.yaml").write_text(yaml.safe_dump(raw))
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "160"}
    printed = [
        run(block, photos.parent, "", environment)
        for block in blocks
        if block.language == "sh" and block.is_run
    ]
    assert "Kept mobilefacenet@float16" in printed[0]
    assert "Variants made on this machine" in printed[0]
    assert "model mobilefacenet@float16, 2 MB, installed" in printed[1]


def test_messages() -> None:
    """Each message that the guide explains is one that the store gives."""
    rows = GUIDE.read_text(encoding="utf-8").partition("| `cl-serve` says")[2].split("\n\n")[0]
    told = [row.split("`")[1] for row in rows.splitlines() if row.startswith("| `")]
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert 4 == len(told)
    assert [] == [message for message in told if message not in sources]
