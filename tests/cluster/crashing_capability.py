"""A package with a capability whose replicas never start, as a broken release would."""

from pathlib import Path

_MODULE = '''\
"""A hash that is broken."""

from deployments.hash import Hash


class BrokenHash(Hash):
    """Fails where it loads."""

    name = "broken_hash"

    def load(self) -> None:
        """Fail."""
        raise RuntimeError("this release is broken")
'''


def write_package(folder: Path) -> None:
    """Install the package into a folder that is on the modules' path."""
    (folder / "broken_hash.py").write_text(_MODULE, encoding="utf-8")
    info = folder / "broken_hash-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-hash\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[cl_ml_serve.capabilities]\nbroken_hash = broken_hash:BrokenHash\n",
    )
