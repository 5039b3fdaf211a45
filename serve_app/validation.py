"""What is wrong with given data: key, what was expected, what came.

Pydantic finds wrong values. It is silent about keys that Serve's schemas do not know, which are
looked for here; and its messages speak of Python, so they are put into the words of YAML.
"""

import contextlib
import difflib
import re
import reprlib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

Key = tuple[str | int, ...]
"""Where something stands: keys of mappings, and indexes of lists, from the top."""

_KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "a string",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "path": "a path",
}
_RESEMBLES = 0.55
"""Of 1; at difflib's own 0.6, ``route`` does not resemble ``route_prefix``."""

_OUR_RULE = re.compile(r"([a-z_]+(?:\.[a-z_]+)*): (?=expected )")
_WRONG_KIND = ("_type", "_parsing", "_from_float")

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake; ``key`` is where, ``text`` what was expected and what came."""

    key: Key
    text: str

    def __str__(self) -> str:
        """Show both in a line."""
        return f"{key_path(self.key)}: {self.text}" if self.key else self.text

    def below(self, prefix: Key) -> "Problem":
        """Return the same, for data that stands at ``prefix`` in something larger."""
        return Problem((*prefix, *self.key), self.text)


def key_path(key: Key) -> str:
    """Write a key as ``applications[0].args.graph``."""
    parts = (f"[{part}]" if type(part) is int else f".{part}" for part in key)
    return "".join(parts).removeprefix(".")


def shown(value: object) -> str:
    """Write a value shortly, and as YAML has it: an empty one as ``nothing``."""
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value is None else _shortened.repr(value)


def one_of(name: object, known: Iterable[str]) -> str:
    """Say what a name could have been: the one that it resembles, or all."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=_RESEMBLES)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names)}"


def validation_problems(
    error: ValidationError,
    data: object = None,
    *,
    complete: bool = True,
) -> list[Problem]:
    """List what Pydantic found wrong, one problem for each key.

    Unknown keys are left out, see ``unknown_keys``. With the ``data`` that it found wrong, keys
    are those of the data; without, Pydantic's own. What is missing is no mistake where the data
    need not be ``complete``.
    """
    found: dict[Key, list[Mapping[str, Any]]] = {}
    for detail in error.errors():
        kind = detail["type"]
        if kind == "extra_forbidden" or (kind == "missing" and not complete):
            continue
        found.setdefault(_key_of(detail, data), []).append(dict(detail))
    return [Problem(key, _wrong_values(details)) for key, details in found.items()]


def describe_validation_error(
    error: ValidationError,
    prefix: str = "",
    *,
    complete: bool = True,
) -> Iterator[str]:
    """Yield one line for each mistake, unknown keys among them; see ``validation_problems``."""
    unknown = [
        Problem(detail["loc"], f"unknown key (value {shown(detail['input'])})")
        for detail in error.errors()
        if detail["type"] == "extra_forbidden"
    ]
    for problem in [*unknown, *validation_problems(error, complete=complete)]:
        yield str(problem.below((prefix,) if prefix else ()))


def wrong_value(detail: Mapping[str, Any]) -> str:
    """Say what a validation error expected and what came, once each."""
    return _wrong_values([detail])


def unknown_keys(model: type[BaseModel], data: object, prefix: Key = ()) -> Iterator[Problem]:
    """Yield each key of ``data`` that ``model``, or a model inside it, does not have."""
    if not isinstance(data, Mapping):
        return
    fields = model.model_fields
    for key, value in data.items():
        at = (*prefix, key)
        if key not in fields:
            yield Problem(at, f"unknown key (value {shown(value)}); {one_of(key, fields)}")
            continue
        yield from _unknown_below(fields[key].annotation, value, at)


def _unknown_below(annotation: object, value: object, at: Key) -> Iterator[Problem]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from unknown_keys(annotation, value, at)
        return
    origin, arguments = typing.get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from _unknown_below(argument, value, at)
    elif origin is list and isinstance(value, list):
        for i, entry in enumerate(value):
            yield from _unknown_below(arguments[0], entry, (*at, i))
    elif origin is dict and arguments and isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _unknown_below(arguments[1], entry, (*at, key))


def _key_of(detail: Mapping[str, Any], data: object) -> Key:
    """Where in the data an error is; Pydantic's location names branches of unions besides."""
    location: Key = detail["loc"]
    if data is None:
        return location
    key: list[str | int] = []
    for part in location[:-1] if detail["type"] == "missing" else location:
        with contextlib.suppress(LookupError, TypeError):  # a branch of a union
            data = typing.cast("Any", data)[part]
            key.append(part)
    if detail["type"] == "missing":
        key.append(location[-1])
    elif detail["type"] == "value_error" and isinstance(data, Mapping):
        key += _named_key(detail, data)
    return tuple(key)


def _named_key(detail: Mapping[str, Any], data: Mapping[Any, Any]) -> list[str]:
    """Which key a rule about several keys of a mapping means: its message names it.

    Ours begin with it, as ``cluster.port: expected …``; Serve's have it somewhere.
    """
    message = _rule_text(detail)
    if match := _OUR_RULE.match(message):
        return match[1].split(".")
    return next(([word] for word in re.findall(r"\w+", message) if word in data), [])


def _rule_text(detail: Mapping[str, Any]) -> str:
    return str(detail["msg"]).removeprefix("Value error, ").rstrip(".!")


def _wrong_values(details: list[Mapping[str, Any]]) -> str:
    """Join what the branches of a union expected of one value."""
    given = details[0]["input"]
    if details[0]["type"] == "missing":
        return "missing; it is required"
    rules = [_rule_text(detail) for detail in details if detail["type"] == "value_error"]
    if rules:
        text = _OUR_RULE.sub("", rules[0])
        complete = "got" in text or isinstance(given, Mapping)
    else:
        text = f"expected {' or '.join(dict.fromkeys(map(_expectation, details)))}"
        complete = "got" in text
    return text if complete else f"{text}, got {shown(given)}"


def _expectation(detail: Mapping[str, Any]) -> str:
    kind, message = detail["type"], str(detail["msg"])
    family, limits = kind.split("_")[0], detail.get("ctx", {})
    if kind.endswith(_WRONG_KIND) and family in _KINDS:
        return _KINDS[family]
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        count = limits["min_length" if least else "max_length"]
        entries = "entry" if count == 1 else "entries"
        return f"at {'least' if least else 'most'} {count} {entries}, got {limits['actual_length']}"
    expected = message.removeprefix("Input should be ")
    return f"a number {expected}" if kind.startswith(("greater", "less")) else expected
