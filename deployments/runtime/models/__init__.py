"""The model catalogue and the store that fetches, verifies, converts and hands out its files.

The catalogue (``config/models.yaml``) says what a file is: where it may come from, its sha256, its
licence, how it is converted and what its graph takes and gives. The store says what is on this
machine. Serving only ever calls ``ModelStore.path``, which verifies and touches no network, unless
it was given a ``fetch`` for what this machine lacks; everything that downloads is imported on the
first ``pull``, which keeps the download clients and the converter out of the memory of a replica.

    >>> from deployments.runtime.models import ModelStore, load_catalogue
    >>> store = ModelStore(load_catalogue(Path("config/models.yaml")))  # doctest: +SKIP
    >>> store.pull("blazeface_full_range")  # doctest: +SKIP
    >>> store.path("blazeface_full_range")  # doctest: +SKIP
"""

from deployments.runtime.models._catalogue import Catalogue, load_catalogue
from deployments.runtime.models._entry import (
    Contract,
    Conversion,
    Licence,
    ModelEntry,
    Source,
)
from deployments.runtime.models._progress import ProgressCallback, PullProgress
from deployments.runtime.models._store import ModelStatus, ModelStore, default_cache_folder
from deployments.runtime.models._variants import (
    VARIANT_NAMES,
    Attempt,
    Measure,
    VariantName,
    VariantReport,
    base_name,
    quantize_command,
    split_name,
)

__all__ = [
    "VARIANT_NAMES",
    "Attempt",
    "Catalogue",
    "Contract",
    "Conversion",
    "Licence",
    "Measure",
    "ModelEntry",
    "ModelStatus",
    "ModelStore",
    "ProgressCallback",
    "PullProgress",
    "Source",
    "VariantName",
    "VariantReport",
    "base_name",
    "default_cache_folder",
    "load_catalogue",
    "quantize_command",
    "split_name",
]
