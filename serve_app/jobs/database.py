"""The database of jobs: SQLite or PostgreSQL, and what is wrong with it in words that help."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as DatabaseTimeoutError

from deployments.runtime.errors import NodeUnavailableError, StorageFullError

BUSY_TIMEOUT_S = 30
"""How long a write to SQLite waits for another process's."""


def open_database(url: str | None, folder: Path) -> sa.Engine:
    """Open PostgreSQL at ``url``, or without one a SQLite file in ``folder``.

    SQLite writes ahead (WAL), so that readers never wait for a writer, and waits for the disk at
    each commit: what was answered survives a power cut.
    """
    if url is not None:
        driver = sa.make_url(url).set(drivername="postgresql+psycopg")
        return sa.create_engine(driver, pool_pre_ping=True, pool_size=10)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sa.create_engine(
        f"sqlite:///{folder / 'jobs.sqlite'}",
        pool_size=1,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_S,
    )

    def prepare(connection: Any, _: object) -> None:  # noqa: ANN401 - of the driver
        connection.isolation_level = "IMMEDIATE"  # two that read and then write can't deadlock
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_S * 1000}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", prepare)
    return engine


@contextmanager
def explained() -> Iterator[None]:
    """Say what is wrong with a database in words that help."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        if "disk is full" in str(error.orig) or "No space left" in str(error.orig):
            raise StorageFullError(
                f"the disk with the table of jobs is full: {error.orig}; free some space",
            ) from error
        raise NodeUnavailableError(
            f"the database of jobs does not answer, try again shortly: {error.orig}",
        ) from error
    except DatabaseTimeoutError as error:
        raise NodeUnavailableError("the database of jobs is busy; try again shortly") from error
