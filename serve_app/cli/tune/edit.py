"""Changes values in a YAML text and leaves every other character of it as it is.

A library that reads a file and writes it anew moves comments and quotes. Here PyYAML says where a
value stands, and only that part of the text is replaced. A value that two places share through an
anchor is written out before it is changed in one of them. What comes out is read again and compared
with what was meant.
"""

import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from deployments.runtime.errors import ConfigError
from serve_app.validation import Key, key_path

REASON = "# cl-serve tune: "
"""How a comment of ours begins; the next run replaces those above what it changes."""

_WIDE = 10_000  # columns; a value that is put into a line must not be broken


@dataclass(frozen=True, slots=True)
class Change:
    """A new value: where it stands, and why it is better, for a comment above its line.

    A key that the text lacks is added, and so is an entry one behind the last of a list.
    """

    key: Key
    value: Any
    reason: str = ""


def edited(text: str, changes: Iterable[Change]) -> str:
    """Make changes in a YAML text whose top is a mapping.

    Raises:
        ConfigError: the text is written in a way that this can't change.

    """
    changes = tuple(changes)
    expected = yaml.safe_load(text)
    for change in changes:
        _put(expected, change.key, change.value)
        text = _changed(text, change)
    text = _with_reasons(text, changes)
    if yaml.safe_load(text) != expected:
        keys = ", ".join(key_path(change.key) for change in changes)
        raise ConfigError(f"can't be changed without a loss; write these values yourself: {keys}")
    return text


@dataclass(slots=True)
class _Layout:
    """Where everything of a text stands.

    ``shared`` has the names of anchors, by the id of the nodes that have one or are an alias of
    one; ``aliases`` has where aliases stand, by name.
    """

    root: yaml.Node
    shared: dict[int, str] = field(default_factory=dict)
    aliases: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """Composes nodes, and notes what is known of anchors only while that is done."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.named: list[tuple[str, yaml.Node]] = []
        self.spans: dict[str, list[tuple[int, int]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> Any:  # noqa: ANN401 - as PyYAML has it
        event: Any = self.peek_event()
        repeats = self.check_event(yaml.AliasEvent)
        node: Any = super().compose_node(parent, index)
        if repeats:
            # A node of its own that stands here, where what it repeats stands elsewhere.
            node = copy.copy(node)
            node.start_mark, node.end_mark = event.start_mark, event.end_mark
            node.flow_style = True
            span = (event.start_mark.index, event.end_mark.index)
            self.spans.setdefault(event.anchor, []).append(span)
        if event.anchor is not None:
            self.named.append((event.anchor, node))
        return node


def _layout_of(text: str) -> _Layout:
    loader = _Loader(text)
    root: Any = loader.get_single_node()
    shared = {id(node): name for name, node in loader.named if name in loader.spans}
    return _Layout(root, shared, loader.spans)


def _changed(text: str, change: Change) -> str:
    """Make one change, without its comment."""
    layout = _layout_of(text)
    node, rest = layout.root, list(change.key)
    while True:
        if id(node) in layout.shared:
            return _changed(_written_out(text, layout, layout.shared[id(node)]), change)
        child = _child(node, rest[0]) if rest else None
        if child is None:
            break
        node, rest = child, rest[1:]
    if rest and isinstance(node, yaml.CollectionNode):
        return _added(text, node, rest, change.value)
    # A scalar that is to have keys below it is an empty one.
    return _replaced(text, node, _flow(_nested(rest, change.value)))


def _child(node: yaml.Node, key: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode):
        return node.value[key] if isinstance(key, int) and key < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == key), None)
    return None


def _replaced(text: str, node: yaml.Node, value: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        end = _content_end(text, node)
    space = " " if start == end else ""  # an empty value stands right behind its colon
    return f"{text[:start]}{space}{value}{text[end:]}"


def _added(text: str, node: yaml.CollectionNode, rest: list[str | int], value: object) -> str:
    """Add what a collection lacks: behind its last entry, in the style that it has."""
    is_list = isinstance(node, yaml.SequenceNode)
    entry = _flow(_nested(rest[1:], value))
    entry = entry if is_list else f"{rest[0]}: {entry}"
    if node.flow_style:
        end = node.end_mark.index - 1
        head = text[:end].rstrip()
        comma = ", " if node.value else ""
        return f"{head}{comma}{entry}{text[end:]}"
    end = text.find("\n", _content_end(text, node))
    end = len(text) if end < 0 else end
    dash = "- " if is_list else ""
    return f"{text[:end]}\n{' ' * node.start_mark.column}{dash}{entry}{text[end:]}"


def _content_end(text: str, node: yaml.Node) -> int:
    """Return the index behind the last character of a node; a block's own mark is further on."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return len(text[: node.end_mark.index].rstrip())


def _written_out(text: str, layout: _Layout, name: str) -> str:
    """Replace every alias of an anchor by what it stands for."""
    data = yaml.SafeLoader("")
    original = next(node for node in _nodes(layout.root) if layout.shared.get(id(node)) == name)
    value = _flow(data.construct_object(original, deep=True))
    for start, end in reversed(layout.aliases[name]):
        text = text[:start] + value + text[end:]
    return text


def _nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (*_nodes(key), *_nodes(value))
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _nodes(entry)


def _with_reasons(text: str, changes: Iterable[Change]) -> str:
    """Put the reasons above the lines of their values, in place of those of an earlier run."""
    reasons: dict[int, dict[str, None]] = {}
    layout = _layout_of(text)
    for change in changes:
        if change.reason:
            reasons.setdefault(_line_of(layout.root, change.key), {})[change.reason] = None
    lines = text.split("\n")
    for number in sorted(reasons, reverse=True):
        first = number
        while first and lines[first - 1].lstrip().startswith(REASON):
            first -= 1
        indent = re.match(" *", lines[number])
        assert indent is not None, "it matches nothing as well"  # noqa: S101 - narrows the type
        lines[first:number] = [f"{indent[0]}{REASON}{reason}" for reason in reasons[number]]
    return "\n".join(lines)


def _line_of(node: yaml.Node, key: Key) -> int:
    """Return the line, from 0, in which a key stands, or the entry of a list begins."""
    line = node.start_mark.line
    for part in key:
        if isinstance(node, yaml.MappingNode):
            name, node = next(pair for pair in node.value if pair[0].value == part)
            line = name.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
    return line


def _nested(keys: list[str | int], value: object) -> object:
    for key in reversed(keys):
        value = [value] if isinstance(key, int) else {key: value}
    return value


def _flow(value: object) -> str:
    """Write a value in one line."""
    options = {"sort_keys": False, "width": _WIDE, "allow_unicode": True}
    return yaml.safe_dump([value], default_flow_style=True, **options).strip()[1:-1]


def _put(data: Any, key: Key, value: object) -> None:  # noqa: ANN401 - any YAML
    """Make a change in the content; what is shared in it is taken apart."""
    part: Any = key[0]
    rest = key[1:]
    if isinstance(data, list) and part == len(data):
        data.append(None)
    if rest:
        below = data[part] if isinstance(data, list) else data.get(part)
        empty: Any = [] if isinstance(rest[0], int) else {}
        below = empty if below is None else copy.copy(below)
        _put(below, rest, value)
        value = below
    data[part] = value
