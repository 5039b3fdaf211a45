"""The private PostgreSQL of tests keeps what was committed, whatever its end."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.postgres import Postgres, postgres


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    """Run a server."""
    server = Postgres(tmp_path)
    server.start()
    yield server
    server.close()


@pytest.mark.parametrize("end", [Postgres.stop, Postgres.kill])
def test_start_again(server: Postgres, end: Callable[[Postgres], None]) -> None:
    """What was committed is there again after a stop and after a kill with clients connected."""
    with psycopg.connect(server.url) as client:
        client.execute("CREATE TABLE words (word text)")
        client.execute("INSERT INTO words VALUES ('kept')")
        client.commit()
        client.execute("INSERT INTO words VALUES ('lost')")
        end(server)
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
        client.close()
    server.start()
    with psycopg.connect(server.url) as client:
        assert [("kept",)] == client.execute("SELECT word FROM words").fetchall()


def test_ends(tmp_path: Path) -> None:
    """After its block nobody listens any more."""
    with postgres(tmp_path) as url:
        psycopg.connect(url).close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
