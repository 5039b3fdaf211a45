"""One runner at a time: a lock that the one holds, and that its death gives up.

While replicas are replaced there are two for some seconds. Both take submissions; work is done by
the one that leads.
"""

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

RETRY_S = 0.2
CHECK_S = 1.0
_ADVISORY_LOCK = 0x636C5F6A6F6273
"""``cl_jobs`` in ASCII; PostgreSQL's advisory locks have numbers."""


class Lead(Protocol):
    """The right to run jobs."""

    async def take(self) -> None:
        """Return when this process leads."""
        ...

    async def lost(self) -> None:
        """Return when it leads no longer, though it has not let go."""
        ...

    def release(self) -> None:
        """Let go."""
        ...


class FileLead:
    """A lock on a file, for one machine; the system lets go of it when the process dies."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self._path = path
        self._file: int | None = None

    async def take(self) -> None:
        """Return when this process leads."""
        file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(RETRY_S)
            else:
                self._file = file
                return

    async def lost(self) -> None:
        """Never return: such a lock is not lost."""
        await asyncio.Event().wait()

    def release(self) -> None:
        """Let go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class DatabaseLead:
    """An advisory lock of PostgreSQL, for several machines; it goes with its connection."""

    def __init__(self, database: sa.Engine) -> None:
        """Keep the database; nothing is connected."""
        self._database = database
        self._connection: sa.Connection | None = None

    async def take(self) -> None:
        """Return when this process leads."""
        while not await asyncio.to_thread(self._try):  # noqa: ASYNC110 - the database calls nobody
            await asyncio.sleep(RETRY_S)

    async def lost(self) -> None:
        """Return when the connection is."""
        while await asyncio.to_thread(self._lives):  # noqa: ASYNC110 - as above
            await asyncio.sleep(CHECK_S)

    def release(self) -> None:
        """Let go."""
        if self._connection is not None:
            self._connection.invalidate()  # back in the pool it would keep the lock
            self._connection.close()
            self._connection = None

    def _try(self) -> bool:
        try:
            connection = self._database.connect().execution_options(isolation_level="AUTOCOMMIT")
        except OperationalError:
            return False
        held = connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_ADVISORY_LOCK)))
        if held:
            self._connection = connection
        else:
            connection.close()
        return bool(held)

    def _lives(self) -> bool:
        assert self._connection is not None, "taken"  # noqa: S101 - narrows the type
        try:
            return self._connection.scalar(sa.text("SELECT 1")) == 1
        except DBAPIError:
            return False
