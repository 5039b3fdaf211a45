"""A graph that runs on stand-ins: the content of a YAML file, changed."""

import copy
from pathlib import Path
from typing import Any

import yaml

from benchmarks.stand_ins.catalogue import SUFFIX


def with_stand_ins(raw: dict[str, Any], catalogue: Path) -> tuple[dict[str, Any], list[str]]:
    """Replace every model that has a stand-in.

    Args:
        raw: the content of a YAML file whose nodes name their models.
        catalogue: what ``write_catalogue`` wrote.

    Returns:
        The changed content, and the names of the stand-ins to install.

    """
    entries = yaml.safe_load(catalogue.read_text(encoding="utf-8"))["entries"]
    changed = copy.deepcopy(raw)
    args = changed["applications"][0]["args"]
    args.setdefault("models", {})["catalogue"] = str(catalogue)
    used: list[str] = []
    for node in args["graph"].values():
        stand_in = f"{node.get('model')}{SUFFIX}"
        if stand_in in entries:
            node["model"] = stand_in
            used.append(stand_in)
    return changed, used
