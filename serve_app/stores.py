"""What a graph keeps on disk: models, and the files that results refer to."""

from dataclasses import dataclass
from pathlib import Path

from deployments.runtime.folders import OutputStore
from deployments.runtime.models import ModelStore, default_cache_folder, load_catalogue
from serve_app.config import AppArgs, ModelsSpec
from serve_app.model_source import fetch_from_cluster
from serve_app.settings import DEFAULT_CATALOGUE


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of one application."""

    models: ModelStore
    outputs: OutputStore


def open_stores(args: AppArgs) -> Stores:
    """Open the stores that ``args`` describes; nothing is read or made but the catalogue.

    Raises:
        ConfigError: the catalogue can't be read or is wrong.

    """
    spec = args.outputs
    folder = spec.folder or default_cache_folder().parent / "outputs"
    outputs = OutputStore(folder, keep_s=spec.keep_s, max_bytes=spec.max_bytes)
    models = open_models(args.models)
    models.fetch = fetch_from_cluster
    return Stores(models, outputs)


def open_models(spec: ModelsSpec) -> ModelStore:
    """Open the model store that ``args.models`` describes.

    Raises:
        ConfigError: the catalogue can't be read or is wrong.

    """
    catalogue = load_catalogue(Path(spec.catalogue) if spec.catalogue else DEFAULT_CATALOGUE)
    cache = Path(spec.cache).expanduser() if spec.cache else None
    return ModelStore(catalogue, cache, offline=spec.offline)
