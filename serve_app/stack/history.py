"""The configurations that a stack has run in good health, newest last, so that one can go back.

Each is a file of its own below the state folder: what was in the YAML, word for word, so that
neither the head's restart nor a rollback depends on a YAML file that was edited since.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KEEP = 10
"""Older ones are removed."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One configuration that every node was healthy with.

    Attributes:
        number: counts up from 1.
        path: the YAML file that it was read from.
        document: the whole file, with what the command line said differently.
        applied_at_s: Unix time.

    """

    number: int
    path: str
    document: dict[str, Any]
    applied_at_s: float

    @property
    def for_serve(self) -> dict[str, Any]:
        """What Serve is given: everything but what is ours alone; see ``ServeFile.raw``."""
        return {key: value for key, value in self.document.items() if key != "cluster"}


class History:
    """The revisions kept in one folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made with the first revision."""
        self._folder = folder

    def revisions(self) -> list[Revision]:
        """All of them, oldest first; a file that a power cut left damaged is passed over."""
        found: list[Revision] = []
        for file in sorted(self._folder.glob("*.json")):
            try:
                found.append(Revision(**json.loads(file.read_text(encoding="utf-8"))))
            except (ValueError, TypeError):
                continue
        return sorted(found, key=lambda revision: revision.number)

    def latest(self) -> Revision | None:
        """Return the newest revision, if there is one."""
        found = self.revisions()
        return found[-1] if found else None

    def add(self, path: str, document: dict[str, Any]) -> Revision:
        """Keep a configuration, unless it is the newest one already."""
        found = self.revisions()
        if found and (found[-1].path, found[-1].document) == (path, document):
            return found[-1]
        number = found[-1].number + 1 if found else 1
        revision = Revision(number, path, document, time.time())
        self._folder.mkdir(parents=True, exist_ok=True)
        written = self._file(number).with_suffix(".part")
        written.write_text(json.dumps(asdict(revision)), encoding="utf-8")
        written.replace(self._file(number))
        for old in found[: max(0, len(found) + 1 - KEEP)]:
            self._file(old.number).unlink(missing_ok=True)
        return revision

    def drop(self, revision: Revision) -> None:
        """Forget a revision that was rolled back."""
        self._file(revision.number).unlink(missing_ok=True)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06}.json"
