"""What jobs cost: a submission, a job beside the direct call, and both beside a long history.

Printed, not asserted, but for that all jobs are completed: the machine may have other work.
"""

import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from tests.cluster.figures import say
from tests.jobs.blocking import all_places_taken, long_video
from tests.jobs.clients import Service
from tests.jobs.orders import Samples
from tests.jobs.systems import JobsMachine
from tests.postgres import Postgres

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(1800)]

SUBMITTERS = 4
SAMPLES = 50
_ROWS_AT_ONCE = 5000


@dataclass(frozen=True)
class Figures:
    """What was measured once; a ratio is that to another such measurement."""

    submit_ms: float
    submit_behind_queue_ms: float
    jobs_per_s: float
    direct_ms: float
    job_ms: float

    def __str__(self) -> str:
        """Give them in one line."""
        return (
            f"submit p50 {self.submit_ms:.1f} ms, behind a long queue "
            f"{self.submit_behind_queue_ms:.1f} ms; {self.jobs_per_s:.0f} jobs/s; a job takes "
            f"{self.job_ms:.1f} ms, the direct call {self.direct_ms:.1f} ms"
        )

    def ratios(self, other: "Figures") -> str:
        """Give each figure as a multiple of another one's."""
        found = {
            field.name.rpartition("_")[0]: getattr(self, field.name) / getattr(other, field.name)
            for field in fields(self)
        }
        return ", ".join(f"{name} × {ratio:.2f}" for name, ratio in found.items())


@dataclass(frozen=True)
class Bench:
    """Measures one service."""

    machine: JobsMachine
    http: httpx2.Client
    picture: bytes
    video: Path
    queued: int

    def measure(self) -> Figures:
        """Measure everything once; the queue is empty before and after."""
        service = Service(self.machine.urls)
        job_ms, direct_ms = self._overhead()
        submit_ms = _median_ms(self._submit)
        with (
            all_places_taken(self.machine, service, self.video),
            ThreadPoolExecutor(SUBMITTERS) as threads,
        ):
            ids = list(threads.map(lambda _: self._submit(), range(self.queued)))
            behind_ms = _median_ms(lambda: ids.append(self._submit()))
        service.wait_until_idle()
        done = [service.get(f"/jobs/{job_id}") for job_id in ids]
        assert {"completed"} == {job["status"] for job in done}
        began_ms = min(job["started_at"] for job in done)
        took_s = (max(job["completed_at"] for job in done) - began_ms) / 1000
        return Figures(submit_ms, behind_ms, len(done) / took_s, direct_ms, job_ms)

    def _overhead(self) -> tuple[float, float]:
        """Return what a job takes until its client knows its end, and the direct call, in ms."""

        def direct() -> None:
            assert self.http.post("/v1/hash", content=self.picture).is_success

        def job() -> None:
            with self.http.stream("GET", f"/jobs/{self._submit()}/events") as events:
                last = "".join(events.iter_text()).strip().splitlines()[-1]
            assert '"status":"completed"' in last, last

        direct()
        job()
        return _median_ms(job), _median_ms(direct)

    def _submit(self) -> str:
        answer = self.http.post("/jobs/hash", files={"file": ("a.jpg", self.picture)})
        assert answer.is_success, answer.text
        return answer.json()["job_id"]


def _median_ms(action: Callable[[], object]) -> float:
    took_s: list[float] = []
    for _ in range(SAMPLES):
        began_s = time.perf_counter()
        action()
        took_s.append(time.perf_counter() - began_s)
    return statistics.median(took_s) * 1000


def add_history(database: sa.Engine, count: int) -> None:
    """Copy an ended job so many times."""
    jobs = sa.Table("jobs", sa.MetaData(), autoload_with=database)
    with database.connect() as connection:
        row = connection.execute(sa.select(jobs).where(jobs.c.status == "completed")).first()
    assert row is not None
    ended = dict(row._mapping)
    for number in range(0, count, _ROWS_AT_ONCE):
        rows = [
            {**ended, "job_id": str(uuid.uuid4()), "bytes": 0}
            for _ in range(min(_ROWS_AT_ONCE, count - number))
        ]
        with database.begin() as connection:
            connection.execute(jobs.insert(), rows)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    full: bool,  # noqa: FBT001 - a fixture
) -> Iterator[tuple[dict[str, Any], sa.Engine]]:
    """Give what the YAML says of a database, and an engine for it."""
    if request.param == "sqlite":
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'jobs' / 'jobs.sqlite'}")
        yield {}, engine
        engine.dispose()
        return
    if not full:
        pytest.skip("takes long: FULL=1")
    server = Postgres(tmp_path, fsync=True)
    server.start()
    engine = sa.create_engine(sa.make_url(server.url).set(drivername="postgresql+psycopg"))
    yield {"database": server.url}, engine
    engine.dispose()
    server.close()


def test_figures(
    database: tuple[dict[str, Any], sa.Engine],
    samples: Samples,
    tmp_path: Path,
    full: bool,  # noqa: FBT001 - a fixture
) -> None:
    """Measure with few ended jobs in the table, and with many."""
    queued, ended = (1000, 100_000) if full else (200, 20_000)
    spec, engine = database
    machine = JobsMachine(tmp_path, jobs=spec)
    machine.up()
    try:
        with httpx2.Client(base_url=machine.urls[0], timeout=120) as http:
            bench = Bench(machine, http, samples.picture, long_video(tmp_path), queued)
            before = bench.measure()
            say(f"{queued} queued, few ended: {before}")
            add_history(engine, ended)
            after = bench.measure()
            say(f"{queued} queued, {ended} ended: {after}")
            say(f"with {ended} ended jobs: {after.ratios(before)}")
    finally:
        machine.down()
