"""Where the project's own files lie: its configuration, and what it keeps between runs."""

import os
from pathlib import Path


def config_folder() -> Path:
    """Return the folder of the shipped YAML files: inside the wheel, or the repository's own."""
    package = Path(__file__).resolve().parent
    shipped = package / "config"
    return shipped if shipped.is_dir() else package.parent / "config"


DEFAULT_CATALOGUE = config_folder() / "models.yaml"
"""The model catalogue that is used unless another one is named."""


def default_state_folder() -> Path:
    """Folder of the state file: ``$XDG_STATE_HOME/cl-ml-serve``."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "cl-ml-serve"
