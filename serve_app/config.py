"""The YAML file: its schema, its validation, and the messages that a wrong one gives.

A file is an ordinary Ray Serve config, so that ``serve deploy`` takes it as well. Three places
configure three things: ``args`` the graph, its models and limits; ``deployments`` replicas and
resources; ``user_config`` what may change while serving. Serve ignores keys that it does not
know, and a misspelt key would silently do nothing, so the whole file is checked here first.
"""

import contextlib
import copy
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray.serve.schema import ServeDeploySchema

from deployments.runtime.errors import ConfigError
from deployments.runtime.folders import DEFAULT_KEEP_S, DEFAULT_MAX_BYTES
from deployments.runtime.picture import DEFAULT_MAX_PIXELS
from serve_app.validation import describe_validation_error, unknown_keys

IMPORT_PATH = "serve_app.app:build"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSpec(_Strict):
    """One node of ``args.graph``."""

    needs: tuple[str, ...] = Field(
        description="Where its inputs come from: other nodes, or the roots `upload`, `image`, "
        "`video` and `texts`.",
    )
    capability: str | None = Field(
        default=None,
        description="The capability that it runs; by default the one of the node's own name.",
    )
    model: str | None = Field(
        default=None,
        description="An entry of the model catalogue; by default the capability's own choice.",
    )
    provider: str = Field(
        default="auto",
        description="ONNX Runtime execution provider: auto, cpu, cuda, openvino, …",
    )
    num_threads: int = Field(default=1, ge=1, le=256, description="Threads of one inference.")
    timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="Time limit of requests that want this node, where it is to be longer than "
        "`limits.request_timeout_s`.",
    )


class ModelsSpec(_Strict):
    """Where models come from and are kept: ``args.models``."""

    catalogue: str | None = Field(
        default=None,
        description="Path of the model catalogue; by default the one that is shipped.",
    )
    cache: str | None = Field(
        default=None,
        description="Folder of the downloaded models; by default in the user's cache folder.",
    )
    offline: bool = Field(default=False, description="Never touch the network.")


class FilesSpec(_Strict):
    """Which files of a node's disk a request may name by their path: ``args.files``."""

    readable_folders: tuple[Path, ...] = Field(
        default=(),
        description="A request may name a file below these instead of sending it.",
    )
    writable_folders: tuple[Path, ...] = Field(
        default=(),
        description="A request may have results written below these.",
    )


class OutputsSpec(_Strict):
    """Where results of many files, such as HLS streams, are kept: ``args.outputs``."""

    folder: Path | None = Field(
        default=None,
        description="By default in the user's cache folder. On several machines, one that all "
        "share.",
    )
    keep_s: float = Field(default=DEFAULT_KEEP_S, gt=0, description="Older ones are removed.")
    max_bytes: int = Field(
        default=DEFAULT_MAX_BYTES,
        ge=1,
        description="When all take more, the oldest are removed.",
    )


class Limits(_Strict):
    """What one request may cost: ``args.limits``."""

    max_upload_bytes: int = Field(default=64 * 2**20, ge=1, description="Body size of a request.")
    max_pixels: int = Field(
        default=DEFAULT_MAX_PIXELS,
        ge=1,
        description="Width times height of a picture; decoding takes 3 bytes for each.",
    )
    max_files: int = Field(default=64, ge=1, description="Files, or texts, in one request.")
    max_text_chars: int = Field(default=10_000, ge=1, description="Characters of one text.")
    max_concurrent_requests: int = Field(
        default=64,
        ge=1,
        description="Requests in work at once in one ingress replica; more get 503.",
    )
    request_timeout_s: float = Field(default=60.0, gt=0, description="Time limit of a request.")
    retry_after_s: int = Field(default=1, ge=0, description="Retry-After of a 503.")


class AppArgs(_Strict):
    """The application's ``args``."""

    graph: dict[str, NodeSpec] = Field(min_length=1, description="Node name to node.")
    hosts: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Deployment name to the nodes that it hosts; a node that is in none has a "
        "deployment of its own. `ingress` hosts nodes beside the HTTP server.",
    )
    models: ModelsSpec = ModelsSpec()
    files: FilesSpec = FilesSpec()
    outputs: OutputsSpec = OutputsSpec()
    limits: Limits = Limits()


class NodeTuning(_Strict):
    """What may change live for one node: ``user_config.<node>``."""

    max_batch_size: int = Field(default=16, ge=1, description="Units in one inference at most.")
    batch_wait_timeout_s: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="How long an idle node waits for a batch to fill. Zero loses nothing: while "
        "one batch runs, the next one fills.",
    )
    max_concurrent_batches: int = Field(default=1, ge=1, description="Inferences at once.")
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Defaults of the capability's request parameters, for requests without them.",
    )


class ServeFile:
    """A checked YAML file: ``raw`` is what Serve is given, ``args`` our part of it."""

    def __init__(self, raw: dict[str, Any], path: Path) -> None:
        """Check the whole file.

        Raises:
            ConfigError: names the file, and for each mistake the key, the value and what was
                expected.

        """
        self.path = path
        self.raw = raw = _with_absolute_paths(raw, path)
        problems = list(unknown_keys(ServeDeploySchema, raw))
        schema: ServeDeploySchema | None = None
        if not problems:
            try:
                schema = ServeDeploySchema.model_validate(raw)
            except ValidationError as error:
                problems = list(describe_validation_error(error))
        if schema is not None and len(schema.applications) != 1:
            problems.append(
                f"applications: expected exactly 1 entry, got {len(schema.applications)}"
            )
        if problems or schema is None:
            raise _file_error(path, problems)
        self.schema = schema
        self.application = schema.applications[0]
        try:
            self.args = AppArgs.model_validate(self.application.args)
        except ValidationError as error:
            raise _file_error(
                path,
                describe_validation_error(error, prefix="applications[0].args"),
            ) from error

    @property
    def app_name(self) -> str:
        """The Serve application's name."""
        return self.application.name

    @property
    def http_host(self) -> str:
        """The address that HTTP listens on."""
        return self.schema.http_options.host

    @property
    def http_port(self) -> int:
        """The port that HTTP listens on."""
        return self.schema.http_options.port

    def with_overrides(self, *, port: int | None, offline: bool | None) -> "ServeFile":
        """Return the file with what a command line says differently; None changes nothing."""
        raw = copy.deepcopy(self.raw)
        if port is not None:
            raw.setdefault("http_options", {})["port"] = port
        if offline is not None:
            raw["applications"][0]["args"].setdefault("models", {})["offline"] = offline
        return ServeFile(raw, self.path)

    def check_deployments(self, hosts: Mapping[str, tuple[str, ...]]) -> None:
        """Check ``deployments[]`` against the deployments that the graph makes.

        Args:
            hosts: every deployment of the application, and the nodes that each hosts.

        Raises:
            ConfigError: a deployment that the graph does not have, or tuning of a node that the
                deployment does not host.

        """
        problems: list[str] = []
        for i, deployment in enumerate(self.application.deployments):
            key = f"applications[0].deployments[{i}]"
            if deployment.name not in hosts:
                problems.append(
                    f"{key}.name: the graph has no deployment {deployment.name!r}; "
                    f"expected one of {', '.join(sorted(hosts))}",
                )
                continue
            user_config = deployment.user_config
            try:
                parse_tuning(
                    user_config if isinstance(user_config, dict) else {},
                    hosts[deployment.name],
                    prefix=f"{key}.user_config",
                )
            except ConfigError as error:
                problems.append(str(error))
        if problems:
            raise _file_error(self.path, problems)


def load_file(path: Path) -> ServeFile:
    """Read and check a YAML file.

    Raises:
        ConfigError: it can't be read, is not YAML, or is wrong; see ``ServeFile``.

    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(raw).__name__}")
    return ServeFile(raw, path)


def parse_tuning(
    user_config: Mapping[str, Any],
    nodes: tuple[str, ...],
    prefix: str = "user_config",
) -> dict[str, NodeTuning]:
    """Read the ``user_config`` of a deployment that hosts ``nodes``: one tuning for each.

    Raises:
        ConfigError: a node that is not hosted there, an unknown key or a wrong value.

    """
    unknown = sorted(set(user_config) - set(nodes))
    if unknown:
        raise ConfigError(
            f"{prefix}.{unknown[0]}: not a node of this deployment; "
            f"expected one of {', '.join(nodes) or '(none)'}",
        )
    tuning: dict[str, NodeTuning] = {}
    for node in nodes:
        try:
            tuning[node] = NodeTuning.model_validate(user_config.get(node) or {})
        except ValidationError as error:
            lines = describe_validation_error(error, prefix=f"{prefix}.{node}")
            raise ConfigError("\n".join(lines)) from error
    return tuning


_PATHS = (
    ("models", "catalogue"),
    ("models", "cache"),
    ("outputs", "folder"),
    ("files", "readable_folders"),
    ("files", "writable_folders"),
)
"""Keys of ``args`` that hold paths."""


def _with_absolute_paths(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    """Make the paths of ``args`` absolute; in the file they start at its own folder."""
    raw = copy.deepcopy(raw)

    def absolute(value: str) -> str:
        return str((path.parent / Path(value).expanduser()).resolve())

    for section, key in _PATHS:
        with contextlib.suppress(LookupError, TypeError, AttributeError):  # reported by the checks
            values = raw["applications"][0]["args"][section]
            given = values[key]
            if isinstance(given, list):
                values[key] = [absolute(value) for value in given]
            elif given:
                values[key] = absolute(given)
    return raw


def _file_error(path: Path, problems: typing.Iterable[str]) -> ConfigError:
    return ConfigError("\n".join(f"{path}: {problem}" for problem in problems))
