"""A stand-in for setuptools' build backend that builds nothing.

``pip download`` of a source distribution asks the package's build backend for its metadata, and
for setuptools that means running its ``setup.py``: foreign code, and a download of setuptools
besides. All that is wanted here is one data file of the archive. This module is put in front of
the real ``setuptools.build_meta`` in that one pip process and answers from the ``PKG-INFO`` file
that every source distribution contains, so nothing of the package is executed.
"""

import re
from email.parser import HeaderParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def prepare_metadata_for_build_wheel(
    metadata_directory: str,
    config_settings: dict[str, Any] | None = None,  # noqa: ARG001 - the hook's signature, PEP 517
) -> str:
    """Write the ``.dist-info`` folder from ``PKG-INFO`` in the current folder; return its name."""
    text = Path("PKG-INFO").read_text(encoding="utf-8")
    headers = HeaderParser().parsestr(text)
    # The folder's name is normalised as the wheel format asks for.
    name = re.sub(r"[-_.]+", "_", headers["Name"]).lower()
    folder = Path(metadata_directory) / f"{name}-{headers['Version']}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(text, encoding="utf-8")
    return folder.name


# What pip asks for when a package names no backend of its own.
__legacy__ = SimpleNamespace(prepare_metadata_for_build_wheel=prepare_metadata_for_build_wheel)
