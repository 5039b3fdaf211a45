"""Fixtures of the tests of jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from serve_app.jobs.database import open_database
from tests.postgres import postgres


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a PostgreSQL."""
    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty database of each kind."""
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    engine = open_database(url, tmp_path)
    yield engine
    if url is not None:
        with engine.begin() as connection:
            for schema in ("public", "dbos"):
                connection.execute(sa.text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
