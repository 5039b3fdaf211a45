"""The folder of one machine's Ray: its sockets, its logs, and what else lives as long as it."""

import os
import shutil
import tempfile
import uuid
from pathlib import Path

from deployments.runtime.errors import StackError

MIN_FREE_BYTES = 512 * 2**20
"""Ray refuses work on a full disk with messages that name everything but the disk."""


def ray_temp(folder: Path) -> Path:
    """Return the part of the folder that Ray opens to everybody; what is around it is private."""
    return folder / "ray"


def session_folder(folder: Path) -> Path:
    """Return where the Ray that runs, or ran last, keeps its sockets and logs."""
    return ray_temp(folder) / "session_latest"


def make_ray_folder(state_folder: Path) -> Path:
    """Make an empty private folder for Ray, one per state folder.

    It lies in /tmp, since HAProxy's socket in it, below a folder of 56 letters for each node, may
    have a path of at most 97 bytes.

    Raises:
        StackError: the folder is somebody else's, or the disk is full.

    """
    name = uuid.uuid5(uuid.NAMESPACE_URL, str(state_folder.resolve())).hex[:8]
    folder = Path(tempfile.gettempdir()) / f"cl-serve-{os.getuid()}-{name}"
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.getuid()):
        raise StackError(f"{folder} belongs to somebody else; remove it, then try again")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < MIN_FREE_BYTES:
        raise StackError(
            f"the disk with {folder} is full: {free_bytes / 2**20:.0f} MiB are free and "
            f"{MIN_FREE_BYTES / 2**20:.0f} MiB are needed; free some space, then try again",
        )
    return folder
