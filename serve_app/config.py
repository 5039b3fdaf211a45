"""The YAML file: read, checked completely, and what a wrong one is answered with.

A file is an ordinary Ray Serve config, so that ``serve deploy`` takes it as well. Three places
configure three things: ``args`` the graph, its models and limits; ``deployments`` replicas and
resources; ``user_config`` what may change while serving. ``cluster`` says how machines come
together. Serve ignores keys that it does not know, and a misspelt key would silently do nothing,
so the whole file is checked here first; ``app.check_graph`` checks the graph in it.
"""

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from deployments.runtime.errors import ConfigError
from serve_app.cluster_spec import LOOPBACK, ClusterSpec
from serve_app.schema import (
    AppArgs,
    FileSchema,
    FilesSpec,
    JobsSpec,
    Limits,
    ModelsSpec,
    NodeSpec,
    NodeTuning,
    OutputsSpec,
)
from serve_app.source import Source, read_source
from serve_app.validation import (
    Key,
    Problem,
    one_of,
    unknown_keys,
    validation_problems,
)

__all__ = [
    "APPLICATION",
    "AppArgs",
    "ClusterSpec",
    "FilesSpec",
    "JobsSpec",
    "Limits",
    "ModelsSpec",
    "NodeSpec",
    "NodeTuning",
    "OutputsSpec",
    "ServeFile",
    "load_file",
    "parse_tuning",
]

APPLICATION: Key = ("applications", 0)
"""Where the one application stands."""

CLUSTER = "cluster"


class ServeFile:
    """A checked YAML file: ``document`` is all of it, ``raw`` what Serve is given.

    ``args`` and ``cluster`` are our parts of it, ``schema`` is everything, typed.
    """

    def __init__(self, raw: dict[str, Any], path: Path, source: Source | None = None) -> None:
        """Check the whole file.

        Args:
            raw: its content.
            path: its path; paths inside start at its folder.
            source: the text that the content comes from, if any, so that messages name lines.

        Raises:
            ConfigError: names the file, and for each mistake the line, the key, the value and
                what was expected.

        """
        self.path = path
        self._source = source or Source(raw)
        self.document = _with_defaults(_with_absolute_paths(raw, path))
        problems = [*self._source.duplicates, *unknown_keys(FileSchema, self.document)]
        try:
            # Some of Serve's validators change what they are given.
            self.schema = FileSchema.model_validate(copy.deepcopy(self.document))
        except ValidationError as error:
            problems += validation_problems(error, self.document)
        if problems:
            raise self.error(problems)
        self.application = self.schema.applications[0]
        self.args: AppArgs = self.application.args

    @property
    def raw(self) -> dict[str, Any]:
        """What Serve is given: everything but what is ours alone."""
        return {key: value for key, value in self.document.items() if key != CLUSTER}

    @property
    def cluster(self) -> ClusterSpec:
        """How machines come together."""
        return self.schema.cluster

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

    def with_overrides(
        self,
        *,
        port: int | None,
        offline: bool | None,
        jobs_folder: str | None = None,
    ) -> "ServeFile":
        """Return the file with what a command line says differently; None changes nothing.

        ``jobs_folder`` is where jobs are kept when they are, and the file does not say where.
        """
        document = copy.deepcopy(self.document)
        if port is not None:
            document["http_options"]["port"] = port
        if offline is not None:
            document["applications"][0]["args"].setdefault("models", {})["offline"] = offline
        if jobs_folder is not None and self.args.jobs is not None:
            document["applications"][0]["args"]["jobs"].setdefault("folder", jobs_folder)
        return ServeFile(document, self.path, self._source)

    def error(self, problems: Iterable[Problem]) -> ConfigError:
        """Make one error of mistakes in this file: a line each, in the order of the file."""
        located = [(self._source.line_of(problem.key), problem) for problem in problems]
        located.sort(key=lambda pair: pair[0] or 0)
        lines = dict.fromkeys(
            f"{self.path}:{line}: {problem}" if line else f"{self.path}: {problem}"
            for line, problem in located
        )
        return ConfigError("\n".join(lines))

    def check_deployments(self, hosts: Mapping[str, tuple[str, ...]]) -> None:
        """Check ``deployments[]`` against the deployments that the graph makes.

        Args:
            hosts: every deployment of the application, and the nodes that each hosts.

        Raises:
            ConfigError: see ``deployment_problems``.

        """
        problems = list(self.deployment_problems(hosts, {}))
        if problems:
            raise self.error(problems)

    def deployment_problems(
        self,
        hosts: Mapping[str, tuple[str, ...]],
        params: Mapping[str, type[BaseModel]],
    ) -> Iterator[Problem]:
        """Yield what a replica would refuse of ``deployments[]``.

        That is a deployment that the graph does not have or that is listed twice, tuning of a node
        that the deployment does not host, and default parameters that its capability refuses.

        Args:
            hosts: every deployment of the application, and the nodes that each hosts.
            params: node name to the request parameters of its capability.

        """
        seen: set[str] = set()
        for i, deployment in enumerate(self.application.deployments):
            key = (*APPLICATION, "deployments", i)
            if deployment.name not in hosts:
                yield Problem(
                    (*key, "name"),
                    f"the graph has no deployment {deployment.name!r}; "
                    f"{one_of(deployment.name, sorted(hosts))}",
                )
                continue
            if deployment.name in seen:
                yield Problem(
                    (*key, "name"),
                    f"expected one entry for each deployment, got a second for {deployment.name!r}",
                )
            seen.add(deployment.name)
            user_config = deployment.user_config or {}
            for problem in _tuning_problems(user_config, hosts[deployment.name]):
                yield problem.below((*key, "user_config"))
            for name, tuning in user_config.items():
                if tuning is not None and name in params:
                    for problem in params_problems(params[name], tuning.params):
                        yield problem.below((*key, "user_config", name, "params"))


def load_file(path: Path) -> ServeFile:
    """Read and check a YAML file.

    Raises:
        ConfigError: it can't be read, is not YAML, or is wrong; see ``ServeFile``.

    """
    source = read_source(path)
    return ServeFile(source.data, path, source)


def parse_tuning(
    user_config: Mapping[str, Any],
    nodes: tuple[str, ...],
    prefix: str = "user_config",
) -> dict[str, NodeTuning]:
    """Read the ``user_config`` of a deployment that hosts ``nodes``: one tuning for each.

    Raises:
        ConfigError: a node that is not hosted there, an unknown key or a wrong value.

    """
    problems = list(_tuning_problems(user_config, nodes))
    if problems:
        raise ConfigError("\n".join(str(problem.below((prefix,))) for problem in problems))
    return {node: NodeTuning.model_validate(user_config.get(node) or {}) for node in nodes}


def params_problems(params: type[BaseModel], values: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with default parameters; they need not be complete."""
    yield from unknown_keys(params, values)
    try:
        params.model_validate(values)
    except ValidationError as error:
        yield from validation_problems(error, values, complete=False)


def _tuning_problems(user_config: Mapping[str, Any], nodes: tuple[str, ...]) -> Iterator[Problem]:
    for name, values in user_config.items():
        if name not in nodes:
            choice = f"expected one of {', '.join(nodes)}" if nodes else "it hosts none"
            yield Problem((name,), f"not a node of this deployment; {choice}")
            continue
        yield from (problem.below((name,)) for problem in unknown_keys(NodeTuning, values))
        try:
            NodeTuning.model_validate(values or {})
        except ValidationError as error:
            for problem in validation_problems(error, values):
                yield problem.below((name,))


_PATHS = (
    ("models", "catalogue"),
    ("models", "cache"),
    ("outputs", "folder"),
    ("files", "readable_folders"),
    ("files", "writable_folders"),
    ("jobs", "folder"),
    ("jobs", "files"),
    ("jobs", "webhooks", "secret_file"),
    ("events", "mqtt", "ca_file"),
    ("events", "mqtt", "password_file"),
)
"""Keys of ``args`` that hold paths."""


def _with_absolute_paths(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    """Make the paths of ``args`` absolute; in the file they start at its own folder."""
    raw = copy.deepcopy(raw)

    def absolute(value: str) -> str:
        if "://" in value:
            return value
        return str((path.parent / Path(value).expanduser()).resolve())

    for *sections, key in _PATHS:
        with contextlib.suppress(LookupError, TypeError, AttributeError):  # reported by the checks
            values = raw["applications"][0]["args"]
            for section in sections:
                values = values[section]
            given = values[key]
            if isinstance(given, list):
                values[key] = [absolute(value) for value in given]
            elif given:
                values[key] = absolute(given)
    return raw


def _with_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """Write defaults of ours into what Serve is given, where its own are different."""
    if isinstance(options := document.setdefault("http_options", {}), dict):
        options.setdefault("host", LOOPBACK)
    return document
