"""Where the project's own configuration files lie."""

from pathlib import Path


def config_folder() -> Path:
    """Return the folder of the shipped YAML files: inside the wheel, or the repository's own."""
    package = Path(__file__).resolve().parent
    shipped = package / "config"
    return shipped if shipped.is_dir() else package.parent / "config"


DEFAULT_CATALOGUE = config_folder() / "models.yaml"
"""The model catalogue that is used unless another one is named."""
