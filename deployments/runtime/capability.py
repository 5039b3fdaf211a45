"""The contract that every capability fulfils, and how capabilities are found.

A capability turns typed inputs into one typed result, in three steps, so that a host can batch
the expensive middle step across requests without knowing what it computes::

    prepare(inputs, params) -> Work(units, state)    per request: decode, crop, scale
    infer(units)            -> parts                 batched across requests
    finish(work, parts)     -> result                per request: interpret, assemble

A photo with five faces is one request and five units, so batches fill by faces. A capability
without a model does its work in ``prepare`` and returns no units. All three run in worker
threads and must not touch shared state. Work that takes seconds tells ``current_task()`` of its
progress, and asks it whether anybody still waits.

Capabilities are found through the entry point group ``cl_ml_serve.capabilities``; the entry
point's name is the capability's name everywhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from deployments.runtime.errors import ConfigError
from deployments.runtime.folders import AllowedFolders, OutputStore
from deployments.runtime.models import ModelStore

if TYPE_CHECKING:
    from deployments.runtime.onnx_session import OnnxSession

ENTRY_POINT_GROUP = "cl_ml_serve.capabilities"


class Params(BaseModel):
    """Base of every capability's request parameters: immutable, unknown names refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ParamsT = TypeVar("ParamsT", bound=Params)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Work:
    """One request between ``prepare`` and ``finish``.

    ``units`` are what ``infer`` takes, each independent of the others; ``state`` is whatever
    ``finish`` needs besides the parts.
    """

    units: Sequence[Any]
    state: Any


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What the YAML says about one node, as far as the capability itself is concerned.

    ``provider`` is one of ``onnx_session.PROVIDERS``; ``num_threads`` is the number of threads
    that one inference uses. ``files`` are the folders that requests may name, ``outputs`` keeps
    the files that results refer to. ``allow_unvalidated`` lets ``model`` be a variant that failed
    its validation.
    """

    store: ModelStore
    files: AllowedFolders = field(default_factory=AllowedFolders)
    outputs: OutputStore | None = None
    model: str | None = None
    provider: str = "auto"
    num_threads: int = 1
    allow_unvalidated: bool = False

    def open_session(self, model: str) -> "OnnxSession":
        """Load the graph of a model, or of a variant, as this node is to run it.

        Raises:
            ModelError: the model can't be used.
            ConfigError: the provider is not on this machine.

        """
        # A node without a model is spared the memory of ONNX Runtime.
        from deployments.runtime.onnx_session import OnnxSession  # noqa: PLC0415 - just explained

        path = self.store.path(model, allow_unvalidated=self.allow_unvalidated)
        return OnnxSession(path, provider=self.provider, num_threads=self.num_threads)


class Capability(ABC, Generic[ParamsT, ResultT]):
    """One node's computation. Subclasses set the class variables and implement the three steps."""

    name: ClassVar[str]
    """The one word for it: folder, node, deployment, route segment, metric label."""
    summary: ClassVar[str]
    """One sentence for people: OpenAPI and ``/v1/capabilities`` show it."""
    inputs: ClassVar[tuple[type, ...]]
    """The types that ``prepare`` takes, in order; edges of the graph are checked against them."""
    params: ClassVar[type[Params]]
    result: ClassVar[type]
    default_model: ClassVar[str | None] = None
    """The catalogue entry used when the YAML names none; None for a capability without a model."""
    own_threads: ClassVar[int] = 0
    """Worker threads that it does not share with the nodes beside it, so that neither waits for the
    other: for what takes long, or mostly waits for another program. 0 shares the host's."""

    def __init__(self, settings: NodeSettings) -> None:
        """Keep the settings; nothing is loaded before ``load``."""
        self.settings = settings

    @property
    def model_name(self) -> str | None:
        """The catalogue entry or variant in use, or None when the capability has no model."""
        return self.settings.model or self.default_model

    @property
    def gains_from_batches(self) -> bool:
        """Whether ``infer`` takes less for the units of several requests than for each in turn.

        Known after ``load``. A host forms batches only where they gain something, as they cost
        hand-overs between threads. By default that is assumed of whatever has an ``infer``.
        """
        return type(self).infer is not Capability.infer

    def load(self) -> None:
        """Load models, start programs, warm up.

        Raises:
            ModelError: a model can't be used.
            ToolError: a program can't be used.

        """

    def close(self) -> None:
        """End what ``load`` started beside the process; nothing by default."""

    @abstractmethod
    def prepare(self, inputs: tuple[Any, ...], params: ParamsT) -> Work:
        """Do what one request needs before inference. Raises ``InputError`` on unusable input."""

    def infer(self, units: Sequence[Any]) -> Sequence[Any]:
        """Run the model on units of any mix of requests; one part per unit, in order."""
        raise NotImplementedError

    @abstractmethod
    def finish(self, work: Work, parts: Sequence[Any]) -> ResultT:
        """Make the result of one request from its parts, given in the order of its units."""

    @abstractmethod
    def sample(self) -> tuple[Any, ...]:
        """Return small inputs of the right types, for a self-test."""

    def sample_params(self) -> ParamsT:
        """Return parameters for a self-test; for a capability that has required ones."""
        return self.params()  # pyright: ignore[reportReturnType] - its own class

    def discard(self, result: ResultT) -> None:
        """Remove what a result keeps on disk; most keep nothing."""

    def run_batch(self, batch: Sequence[tuple[tuple[Any, ...], ParamsT]]) -> list[ResultT]:
        """Run whole requests in one inference: ``batch`` is pairs of inputs and parameters."""
        works = [self.prepare(inputs, params) for inputs, params in batch]
        units = [unit for work in works for unit in work.units]
        parts = list(self.infer(units)) if units else []
        results: list[ResultT] = []
        start = 0
        for work in works:
            end = start + len(work.units)
            results.append(self.finish(work, parts[start:end]))
            start = end
        return results


def installed_capabilities() -> dict[str, type[Capability[Any, Any]]]:
    """All capabilities that installed packages offer, by name.

    Raises:
        ConfigError: one can't be imported, is no capability or has another name, or two packages
            offer the same name. The message names the package and says what to do.

    """
    found: dict[str, type[Capability[Any, Any]]] = {}
    packages: dict[str, str] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        name, package = entry.name, entry.dist.name if entry.dist else "(unknown)"
        offer = f"package {package!r} offers the capability {name!r} as {entry.value!r}"
        remedy = f"repair the package, or remove it: pip uninstall {package}"
        if name in found:
            raise ConfigError(
                f"packages {packages[name]!r} and {package!r} both offer the capability {name!r}; "
                f"keep one of them: pip uninstall {packages[name]}, or pip uninstall {package}"
            )
        try:
            loaded = entry.load()
        except Exception as error:  # whatever code of others does when it is imported
            raise ConfigError(
                f"{offer}, which can't be imported: {type(error).__name__}: {error}; "
                f"install what it lacks, {remedy}"
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, Capability)):
            raise ConfigError(f"{offer}: expected a Capability class, got {loaded!r}; {remedy}")
        if getattr(loaded, "name", None) != name:
            raise ConfigError(
                f"{offer}: expected a class whose name is {name!r}, got "
                f"{getattr(loaded, 'name', None)!r}; {remedy}"
            )
        found[name], packages[name] = loaded, package
    return dict(sorted(found.items()))
