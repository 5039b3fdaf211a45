"""A real, small graph without models: text → words → lengths, one unit for each word.

``words`` stands for a detector, ``lengths`` for a model behind it that batches by what was found.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from deployments.runtime.asset import Asset
from deployments.runtime.capability import Capability, NodeSettings, Params, Work
from deployments.runtime.errors import CorruptMediaError, ModelNotInstalledError
from deployments.runtime.models import ModelStore, load_catalogue
from deployments.runtime.task import current_task
from deployments.runtime.types import EncodedFile, Media, Texts
from serve_app.config import AppArgs
from serve_app.graph import Graph
from serve_app.settings import DEFAULT_CATALOGUE


class WordsParams(Params):
    """Parameters of ``words``."""

    limit: int = Field(default=100, ge=1, le=1000, description="At most so many words.")


@dataclass(frozen=True)
class WordList:
    """The words of a text."""

    words: tuple[str, ...]


class Words(Capability[WordsParams, WordList]):
    """Splits a text into words; a text with a zero byte counts as damaged."""

    name = "words"
    summary = "Words of a text."
    inputs = (Asset,)
    params = WordsParams
    result = WordList

    def prepare(self, inputs: tuple[Any, ...], params: WordsParams) -> Work:
        """Split; there is nothing to infer."""
        (asset,) = inputs
        if b"\0" in asset.data:
            raise CorruptMediaError("the text holds a zero byte")
        return Work((), tuple(asset.data.decode().split()[: params.limit]))

    def finish(self, work: Work, parts: Sequence[Any]) -> WordList:
        """Wrap the words."""
        return WordList(work.state)

    def sample(self) -> tuple[Any, ...]:
        """One word."""
        return (Asset(Media(b"sample")),)


class LengthsParams(Params):
    """Parameters of ``lengths``."""

    factor: int = Field(default=1, ge=1, description="Multiplies every length.")


@dataclass(frozen=True)
class LengthList:
    """The lengths of some words."""

    lengths: tuple[int, ...]


class Lengths(Capability[LengthsParams, LengthList]):
    """Measures words in batches; the class attributes steer and record what happens."""

    name = "lengths"
    summary = "Lengths of the words of a text."
    inputs = (WordList,)
    params = LengthsParams
    result = LengthList
    default_model = "mobilefacenet"

    batches: ClassVar[list[list[str]]] = []
    infer_s: ClassVar[float] = 0.0
    load_error: ClassVar[Exception | None] = None
    loads: ClassVar[int] = 0
    _lock = threading.Lock()

    def load(self) -> None:
        """Fail if the test says so."""
        type(self).loads += 1
        if self.load_error is not None:
            raise self.load_error

    def prepare(self, inputs: tuple[Any, ...], params: LengthsParams) -> Work:
        """One unit for each word."""
        return Work(inputs[0].words, params.factor)

    def infer(self, units: Sequence[str]) -> list[int]:
        """Measure a batch; the word ``crash`` fails unexpectedly."""
        with self._lock:
            self.batches.append(list(units))
        time.sleep(self.infer_s)
        if "crash" in units:
            raise ZeroDivisionError("as asked")
        return [len(unit) for unit in units]

    def finish(self, work: Work, parts: Sequence[int]) -> LengthList:
        """Collect the lengths."""
        return LengthList(tuple(part * work.state for part in parts))

    def sample(self) -> tuple[Any, ...]:
        """One word."""
        return (WordList(("sample",)),)


CAPABILITIES: dict[str, type[Capability[Any, Any]]] = {"words": Words, "lengths": Lengths}

ARGS: dict[str, Any] = {
    "graph": {"words": {"needs": ["upload"]}, "lengths": {"needs": ["words"]}},
}

NOT_INSTALLED = ModelNotInstalledError("not installed: cl-serve models pull mobilefacenet")


def make_graph(**args: Any) -> Graph:  # noqa: ANN401 - the YAML's args
    """Build the fake graph, with parts of ``args`` replaced."""
    return Graph(AppArgs.model_validate({**ARGS, **args}), CAPABILITIES)


def make_settings() -> NodeSettings:
    """Settings over the real catalogue; nothing is fetched."""
    return NodeSettings(store=ModelStore(load_catalogue(DEFAULT_CATALOGUE)))


class Copy(Capability[Params, EncodedFile]):
    """Gives the upload back as a file."""

    name = "copy"
    summary = "The same again."
    inputs = (Asset,)
    params = Params
    result = EncodedFile

    def prepare(self, inputs: tuple[Any, ...], params: Params) -> Work:
        """Read it the way that other programs do."""
        (asset,) = inputs
        return Work((), (asset.path.read_bytes(), asset.filename))

    def finish(self, work: Work, parts: Sequence[Any]) -> EncodedFile:
        """Wrap the bytes."""
        data, filename = work.state
        return EncodedFile(data, "application/x-copy", f"copy of {filename}")

    def sample(self) -> tuple[Any, ...]:
        """One word."""
        return (Asset(Media(b"sample")),)


class Letters(Capability[Params, LengthList]):
    """Counts the letters of texts."""

    name = "letters"
    summary = "Lengths of texts."
    inputs = (Texts,)
    params = Params
    result = LengthList

    def prepare(self, inputs: tuple[Any, ...], params: Params) -> Work:
        """Measure; there is nothing to infer."""
        (texts,) = inputs
        return Work((), tuple(map(len, texts.texts)))

    def finish(self, work: Work, parts: Sequence[Any]) -> LengthList:
        """Wrap the lengths."""
        return LengthList(work.state)

    def sample(self) -> tuple[Any, ...]:
        """One word."""
        return (Texts(("sample",)),)


class Slow(Capability[Params, LengthList]):
    """Works until the test lets it go on, or nobody waits any more."""

    name = "slow"
    summary = "Takes its time."
    inputs = (Asset,)
    params = Params
    result = LengthList
    own_threads = 2

    started: ClassVar[threading.Event] = threading.Event()
    go_on: ClassVar[threading.Event] = threading.Event()
    cancelled: ClassVar[threading.Event] = threading.Event()

    def prepare(self, inputs: tuple[Any, ...], params: Params) -> Work:
        """Report half of the work, then wait."""
        (asset,) = inputs
        current_task().report(50)
        self.started.set()
        while not self.go_on.wait(0.01):
            if current_task().cancelled:
                self.cancelled.set()
                current_task().raise_if_cancelled()
        current_task().report(100)
        return Work((), (len(asset.path.read_bytes()),))

    def finish(self, work: Work, parts: Sequence[Any]) -> LengthList:
        """Wrap the size."""
        return LengthList(work.state)

    def sample(self) -> tuple[Any, ...]:
        """One word."""
        return (Asset(Media(b"sample")),)


def make_wide_graph(**args: Any) -> Graph:  # noqa: ANN401 - the YAML's args
    """Build a graph with every kind of root and result, each node on its own."""
    kinds: dict[str, type[Capability[Any, Any]]] = {
        "words": Words,
        "copy": Copy,
        "letters": Letters,
        "slow": Slow,
    }
    nodes = {name: {"needs": ["texts"] if name == "letters" else ["upload"]} for name in kinds}
    return Graph(AppArgs.model_validate({"graph": nodes, **args}), kinds)
