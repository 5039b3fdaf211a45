"""What Pydantic finds wrong, in a line each: key, what was expected, what came."""

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def describe_validation_error(
    error: ValidationError,
    prefix: str = "",
    *,
    complete: bool = True,
) -> Iterator[str]:
    """Yield one line for each mistake: key, what was expected, what came.

    What is missing is no mistake where the value need not be ``complete``.
    """
    for detail in error.errors():
        if detail["type"] == "missing" and not complete:
            continue
        key = ".".join([*([prefix] if prefix else []), *(str(part) for part in detail["loc"])])
        if detail["type"] == "extra_forbidden":
            yield f"{key}: unknown key (value {detail['input']!r})"
        elif detail["type"] == "missing":
            yield f"{key}: missing"
        else:
            yield f"{key}: {wrong_value(detail)}"


def wrong_value(detail: Mapping[str, Any]) -> str:
    """Say what a validation error expected and what came, once each."""
    message = str(detail["msg"]).removeprefix("Value error, ")
    return message if "got " in message else f"{message}, got {detail['input']!r}"


def unknown_keys(model: type[BaseModel], data: object, prefix: str = "") -> Iterator[str]:
    """Yield one line for each key of ``data`` that ``model`` and the models in it don't have."""
    if not isinstance(data, Mapping):
        return
    fields = model.model_fields
    for key, value in data.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if key not in fields:
            yield f"{path}: unknown key (value {value!r}); expected one of {', '.join(fields)}"
            continue
        for inner in _models_in(fields[key].annotation):
            entries = enumerate(value) if isinstance(value, list) else [(None, value)]
            for i, entry in entries:
                yield from unknown_keys(inner, entry, path if i is None else f"{path}[{i}]")


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (list, typing.Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _models_in(argument)
