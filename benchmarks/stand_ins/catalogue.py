"""The model catalogue of a folder of stand-ins: the shipped entries, and one for each stand-in.

A stand-in's entry is that of the model it stands for, with another source, name and title, so that
it has the same contract and goes through the same conversion.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "models.yaml"
CATALOGUE = "models.yaml"
SUFFIX = "_stand_in"

_LICENCE = {
    "id": "Apache-2.0",
    "commercial_use": True,
    "url": "https://www.apache.org/licenses/LICENSE-2.0",
}


def write_catalogue(folder: Path, files: Mapping[str, str]) -> Path:
    """Write ``models.yaml`` into a folder of stand-ins.

    Args:
        folder: where the files are.
        files: name in the shipped catalogue to file in the folder, which stands for it.

    Returns:
        The catalogue's path.

    """
    document = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    entries: dict[str, Any] = document["entries"]
    for name, file in files.items():
        entries[name + SUFFIX] = _stand_in(entries[name], folder / file)
    path = folder / CATALOGUE
    head = "# The shipped catalogue, and stand-ins, whose results mean nothing.\n"
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    path.write_text(head + text, encoding="utf-8")
    return path


def _stand_in(shipped: dict[str, Any], file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    entry = {
        **shipped,
        "title": f"STAND-IN for {shipped['title']}: seeded weights, results mean nothing",
        "licence": _LICENCE,
        "stand_in": True,
        "sources": [{"file": {"path": file.name}}],
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    if "needs" in shipped:
        entry["needs"] = [name + SUFFIX for name in shipped["needs"]]
    contract = shipped.get("contract", {})
    if "embedding_space" in contract:
        space = contract["embedding_space"] + SUFFIX
        entry["contract"] = {**contract, "embedding_space": space}
    return entry
