"""The model catalogue: a YAML file, validated once, that names every file this project may fetch.

The same format serves the model weights and the photographs of the test-suite.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from deployments.runtime.errors import ConfigError, UnknownModelError
from deployments.runtime.models._entry import ModelEntry, Name, Strict
from deployments.runtime.models._variants import VARIANT_NAMES, split_name


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All entries of one catalogue file, in its order."""

    path: Path
    entries: dict[str, ModelEntry]

    def __iter__(self) -> Iterator[ModelEntry]:
        """All entries, in the order of the file."""
        return iter(self.entries.values())

    def __getitem__(self, name: str) -> ModelEntry:
        """Return the entry of that name, or of the model whose variant is named.

        Raises:
            UnknownModelError: the catalogue has none; the message suggests the nearest names.

        """
        base, variant = split_name(name)
        if variant is not None and variant not in VARIANT_NAMES:
            raise UnknownModelError(
                f"{name!r} names no variant: expected {base}@ followed by one of "
                f"{', '.join(VARIANT_NAMES)}, got {variant!r}"
            )
        entry = self.entries.get(base)
        if entry is None:
            near = difflib.get_close_matches(base, self.entries, n=2) or list(self.entries)
            raise UnknownModelError(
                f"{name!r} is not in the catalogue {self.path}; did you mean {' or '.join(near)}?"
            )
        return entry

    @property
    def default_names(self) -> tuple[str, ...]:
        """The names of the entries that are installed when nothing else is asked for."""
        return tuple(entry.name for entry in self if entry.default)


def load_catalogue(path: Path) -> Catalogue:
    """Read and validate a catalogue file.

    Raises:
        ConfigError: the file can't be read, is not YAML, or says something wrong; every wrong key
            is named with its value and what was expected.

    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    try:
        parsed = _Document.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_describe(path, error)) from error
    return Catalogue(path=path, entries=parsed.entries)


class _Document(Strict):
    entries: dict[Name, ModelEntry]

    @model_validator(mode="before")
    @classmethod
    def _name_entries(cls, value: Any) -> Any:  # noqa: ANN401 - raw YAML
        """Give each entry the key it stands under as its name."""
        if not isinstance(value, dict) or not isinstance(value.get("entries"), dict):
            return value
        named = {
            key: {"name": key, **entry} if isinstance(entry, dict) else entry
            for key, entry in value["entries"].items()
        }
        return {**value, "entries": named}

    @model_validator(mode="after")
    def _names_are_keys(self) -> "_Document":
        for key, entry in self.entries.items():
            if key != entry.name:
                raise ValueError(f"{key}: the name is the key itself, got name: {entry.name!r}")
        return self

    @model_validator(mode="after")
    def _needs_are_entries(self) -> "_Document":
        for entry in self.entries.values():
            for needed in entry.needs:
                if needed not in self.entries or self.entries[needed].needs:
                    raise ValueError(
                        f"{entry.name}: needs: expected entries that need nothing themselves, "
                        f"got {needed!r}"
                    )
        return self


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice; YAML's own loader silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                problem = f"the key {key!r} stands more than once"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


def _describe(path: Path, error: ValidationError) -> str:
    lines: list[str] = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(top level)"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: {key}: unknown key (value {problem['input']!r})")
        elif problem["type"] == "missing":
            lines.append(f"{path}: {key}: is missing")
        else:
            expected = problem["msg"].removeprefix("Value error, ")
            got = repr(problem["input"])
            shown = got if len(got) <= 120 else f"{got[:117]}..."  # noqa: PLR2004 - one line
            lines.append(f"{path}: {key}: {expected}; got {shown}")
    return "\n".join(lines)
