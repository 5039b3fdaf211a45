"""A small graph without models, for `cl-serve analyze`.

``size`` stands for a tool, ``vector`` for a model with a result of every JSON shape, ``words``
for a node that takes texts, ``absent`` for one whose model is not installed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from deployments.runtime.asset import Asset
from deployments.runtime.capability import Capability, Params, Work
from deployments.runtime.errors import (
    CorruptMediaError,
    ModelNotInstalledError,
    NodeUnavailableError,
    ToolFailedError,
    UnsupportedMediaError,
)
from deployments.runtime.types import Embedding, EncodedBytes, Media, Point, Texts


class SizeParams(Params):
    """Parameters of ``size``."""

    factor: int = Field(default=1, ge=1, description="Multiplies every size.")


@dataclass(frozen=True)
class Size:
    """The size of a file, and the name that it was sent with."""

    size_bytes: int
    name: str | None


class SizeOf(Capability[SizeParams, Size]):
    """Counts bytes; some contents fail in a way of their own."""

    name = "size"
    summary = "Size of a file."
    inputs = (Asset,)
    params = SizeParams
    result = Size

    failures: ClassVar[dict[bytes, Exception]] = {
        b"corrupt": CorruptMediaError("the file is cut off"),
        b"crash": ZeroDivisionError("as asked"),
        b"gone": NodeUnavailableError("no replica answers"),
    }

    def prepare(self, inputs: tuple[Any, ...], params: SizeParams) -> Work:
        """Count, or fail if the content says so."""
        (asset,) = inputs
        for content, error in self.failures.items():
            if asset.data.startswith(content):
                raise error
        return Work((), Size(len(asset.data) * params.factor, asset.filename))

    def finish(self, work: Work, parts: Sequence[Any]) -> Size:
        """Return what was counted."""
        return work.state

    def sample(self) -> tuple[Any, ...]:
        """One byte."""
        return (Asset(Media(b"s")),)


@dataclass(frozen=True)
class Tag:
    """A word and a number."""

    label: str
    weight: float


@dataclass(frozen=True)
class Vector:
    """A value of every shape that results have."""

    embedding: Embedding
    thumbnail: EncodedBytes
    raw: dict[str, Any]
    tags: tuple[Tag, ...]
    place: Point | None
    sharp: bool
    comment: str | None


class VectorOf(Capability[Params, Vector]):
    """Turns a file's first byte into numbers; text files are not read."""

    name = "vector"
    summary = "A vector of a file."
    inputs = (Asset,)
    params = Params
    result = Vector

    def prepare(self, inputs: tuple[Any, ...], params: Params) -> Work:
        """Make the vector."""
        (asset,) = inputs
        if asset.data.startswith(b"text"):
            raise UnsupportedMediaError("expected a picture, got text")
        if asset.data.startswith(b"tool"):
            raise ToolFailedError("the program died")
        return Work((), asset.data)

    def finish(self, work: Work, parts: Sequence[Any]) -> Vector:
        """Return it."""
        first = work.state[0]
        return Vector(
            embedding=np.array([first, 0.1], np.float32),
            thumbnail=work.state[:4],
            raw={"EXIF:Make": "Ding", "n": [1, None]},
            tags=(Tag("a", 0.1), Tag("b", first)),
            place=(0.1, 0.2) if first % 2 else None,
            sharp=True,
            comment=None,
        )

    def sample(self) -> tuple[Any, ...]:
        """One byte."""
        return (Asset(Media(b"s")),)


class Words(Capability[Params, Size]):
    """Takes texts, so a file is of no use to it."""

    name = "words"
    summary = "Length of texts."
    inputs = (Texts,)
    params = Params
    result = Size

    def prepare(self, inputs: tuple[Any, ...], params: Params) -> Work:
        """Count."""
        return Work((), Size(len(inputs[0].texts), None))

    def finish(self, work: Work, parts: Sequence[Any]) -> Size:
        """Return what was counted."""
        return work.state

    def sample(self) -> tuple[Any, ...]:
        """One word."""
        return (Texts(("word",)),)


class Absent(SizeOf):
    """A node whose model is not installed."""

    name = "absent"
    summary = "Nothing."
    default_model = "mobilefacenet"

    def load(self) -> None:
        """Fail as without the model."""
        raise ModelNotInstalledError("not installed: cl-serve models pull mobilefacenet")


NODES: dict[str, tuple[type[Capability[Any, Any]], str]] = {
    "size": (SizeOf, "upload"),
    "vector": (VectorOf, "upload"),
    "words": (Words, "texts"),
    "absent": (Absent, "upload"),
}
"""Name to the capability, and the root that feeds it."""
