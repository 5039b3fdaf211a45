"""Import every module of the project and embed the sample photo's faces: prints them as JSON.

``smoke_aarch64.py`` runs it twice, on this machine and on an emulated one.
"""

import importlib
import json
import pkgutil
import platform
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import deployments
import serve_app
from benchmarks.layouts import DEFAULT_CONFIG, GraphFile
from benchmarks.subjects.bare import FacePipeline
from deployments.runtime.picture import Picture
from deployments.runtime.types import Media

PHOTO = Path(serve_app.__file__).parent / "cli" / "sample.jpg"


OPTIONAL = ("deployments.runtime.file_places.s3",)
"""Modules that an extra of the package brings the dependencies of; requirements.lock has none."""


def main() -> None:
    """Print what this machine is, how many modules it imported, and the faces."""
    modules = [*import_all(deployments), *import_all(serve_app)]
    result = FacePipeline(GraphFile(DEFAULT_CONFIG)).run(Picture(Media(PHOTO.read_bytes())))
    faces = [asdict(face) for face in result.faces]
    report = {"machine": platform.machine(), "modules": len(modules), "faces": faces}
    print(json.dumps(report, default=plain))  # noqa: T201 - its answer


def import_all(package: ModuleType) -> list[str]:
    """Import all modules of a package; return their names."""
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    names = [module.name for module in found if module.name not in OPTIONAL]
    for name in names:
        importlib.import_module(name)
    return names


def plain(value: Any) -> Any:  # noqa: ANN401 - what JSON does not know
    """Write an array as a list."""
    return np.asarray(value).tolist()


if __name__ == "__main__":
    main()
