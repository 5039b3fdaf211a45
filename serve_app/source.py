"""A YAML file as text: its content, and the line of every key, for messages that point at it.

YAML takes the last of two equal keys without a word; here the second one is a mistake.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deployments.runtime.errors import ConfigError
from serve_app.validation import Key, Problem

_MERGE = "tag:yaml.org,2002:merge"

_ADVICE = (
    ("'\\t'", "indent with spaces; there is a tab"),
    ("mapping values are not allowed", "check the indentation, and quote a value with ': ' in it"),
    ("expected <block end>", "check the indentation: it is not that of the lines above"),
    ("could not find expected ':'", "check for a key without ': ' after it"),
    ("expected ',' or", "check for a bracket that is not closed"),
    ("found unexpected end of stream", "check for a quote that is not closed"),
    ("single document", "remove the second `---`: one file is one document"),
)
"""What PyYAML says of common mistakes, and what to do about each."""


@dataclass(frozen=True, slots=True)
class Source:
    """The content of a file; without ``lines`` where it did not come from a text."""

    data: Any
    lines: dict[Key, int] = field(default_factory=dict)
    duplicates: tuple[Problem, ...] = ()

    def line_of(self, key: Key) -> int | None:
        """Return the line of a key, or of the nearest mapping around it that the file has."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.lines:
                return self.lines[key[:end]]
        return None


def read_source(path: Path) -> Source:
    """Read a YAML file whose top is a mapping.

    Raises:
        ConfigError: it can't be read, is not YAML, or something else is at its top.

    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: expected text in UTF-8, got other bytes") from error
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines: dict[Key, int] = {}
        duplicates = tuple(_walk(loader, node, (), lines, ())) if node else ()
        data = loader.construct_document(node) if node else None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_error(path, error)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        got = "nothing" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{path}:1: expected a mapping at the top, got {got}")
    return Source(data, lines, duplicates)


def _walk(
    loader: yaml.SafeLoader,
    node: yaml.Node,
    key: Key,
    lines: dict[Key, int],
    above: tuple[yaml.Node, ...],
) -> Iterator[Problem]:
    """Note the line of everything below a node; yield keys that a mapping has twice."""
    lines.setdefault(key, node.start_mark.line + 1)
    if node in above:
        raise yaml.MarkedYAMLError(None, None, "an alias contains itself", node.start_mark)
    above = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for i, entry in enumerate(node.value):
            yield from _walk(loader, entry, (*key, i), lines, above)
    if isinstance(node, yaml.MappingNode):
        own: set[Key] = set()
        for name, value in node.value:
            if name.tag == _MERGE:
                merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for source in merged:
                    yield from _walk(loader, source, key, lines, above)
                continue
            if not isinstance(name, yaml.ScalarNode):
                continue  # no key of ours; refused when the content is made
            at = (*key, loader.construct_object(name))
            if at in own:
                text = f"expected once, got a second time (the first is line {lines[at]})"
                yield Problem(at, text)
            own.add(at)
            lines[at] = name.start_mark.line + 1
            yield from _walk(loader, value, at, lines, above)


def _syntax_error(path: Path, error: yaml.MarkedYAMLError) -> str:
    """Say where YAML stopped, why, and what most often causes it."""
    mark = error.problem_mark or error.context_mark
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    reasons = [reason for reason in (error.context, error.problem) if reason]
    if error.context_mark and error.context_mark.line != getattr(mark, "line", None):
        reasons[0] += f" that begins in line {error.context_mark.line + 1}"
    said = ", ".join(reasons)
    advice = next((f"; {advice}" for part, advice in _ADVICE if part in said), "")
    return f"{where}: not valid YAML: {said}{advice}"
