"""What a graph keeps on disk: models, and the files that results refer to."""

from dataclasses import dataclass
from pathlib import Path

from deployments.runtime.errors import ConfigError
from deployments.runtime.file_store import FileStore
from deployments.runtime.folders import OutputStore
from deployments.runtime.models import ModelStore, default_cache_folder, load_catalogue
from serve_app.config import AppArgs, JobsSpec, ModelsSpec
from serve_app.model_source import fetch_from_cluster
from serve_app.settings import DEFAULT_CATALOGUE, default_state_folder


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of one application."""

    models: ModelStore
    outputs: OutputStore
    files: FileStore | None = None
    """Of jobs; None without them."""


def open_stores(args: AppArgs) -> Stores:
    """Open the stores that ``args`` describes; nothing is read or made but the catalogue.

    Raises:
        ConfigError: the catalogue can't be read or is wrong.

    """
    spec = args.outputs
    folder = spec.folder or default_cache_folder().parent / "outputs"
    files = None if args.jobs is None else open_job_files(args.jobs)
    outputs = OutputStore(folder, keep_s=spec.keep_s, max_bytes=spec.max_bytes, store=files)
    models = open_models(args.models)
    models.fetch = fetch_from_cluster
    return Stores(models, outputs, files)


def jobs_folder(spec: JobsSpec) -> Path:
    """Return the folder of the table of jobs, and of what is arriving."""
    return spec.folder.expanduser() if spec.folder else default_state_folder() / "jobs"


def open_job_files(spec: JobsSpec) -> FileStore:
    """Open the store of the files of jobs; nothing is read or made.

    Raises:
        ConfigError: ``args.jobs.files`` is neither a folder nor in S3.

    """
    try:
        return FileStore(spec.files or str(jobs_folder(spec) / "files"), spec.files_options)
    except ConfigError as error:
        raise ConfigError(f"args.jobs.files: {error}") from error


def open_models(spec: ModelsSpec) -> ModelStore:
    """Open the model store that ``args.models`` describes.

    Raises:
        ConfigError: the catalogue can't be read or is wrong.

    """
    catalogue = load_catalogue(Path(spec.catalogue) if spec.catalogue else DEFAULT_CATALOGUE)
    cache = Path(spec.cache).expanduser() if spec.cache else None
    return ModelStore(catalogue, cache, offline=spec.offline)
