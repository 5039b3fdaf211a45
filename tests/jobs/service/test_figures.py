"""What jobs cost: a submission, a job beside the direct call, and both beside a long history.

Printed, not asserted, but for that all jobs are completed: the machine may have other work.
"""

import statistics
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from tests.cluster.figures import say
from tests.jobs.blocking import all_places_taken
from tests.jobs.clients import Service
from tests.jobs.orders import Samples
from tests.jobs.systems import JobsMachine
from tests.postgres import Postgres

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(1800)]

SUBMITTERS = 4
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
    """Measures one service: medians of ``samples``, and with so many jobs ``queued``."""

    machine: JobsMachine
    picture: bytes
    video: Path
    queued: int
    samples: int

    def measure(self, http: httpx2.Client) -> Figures:
        """Measure everything once; the queue is empty before and after."""
        submit = partial(self._submit, http)
        service = Service(self.machine.urls)
        job_ms, direct_ms = self._overhead(http)
        submit_ms = self._median_ms(submit)
        with (
            all_places_taken(self.machine, service, self.video),
            ThreadPoolExecutor(SUBMITTERS) as threads,
        ):
            ids = list(threads.map(lambda _: submit(), range(self.queued)))
            behind_ms = self._median_ms(lambda: ids.append(submit()))
        service.wait_until_idle()
        done = [service.get(f"/jobs/{job_id}") for job_id in ids]
        assert {"completed"} == {job["status"] for job in done}
        began_ms = min(job["started_at"] for job in done)
        took_s = (max(job["completed_at"] for job in done) - began_ms) / 1000
        return Figures(submit_ms, behind_ms, len(done) / took_s, direct_ms, job_ms)

    def _overhead(self, http: httpx2.Client) -> tuple[float, float]:
        """Return what a job takes until its client knows its end, and the direct call, in ms."""

        def direct() -> None:
            assert http.post("/v1/hash", content=self.picture).is_success

        def job() -> None:
            with http.stream("GET", f"/jobs/{self._submit(http)}/events") as events:
                last = "".join(events.iter_text()).strip().splitlines()[-1]
            assert '"status":"completed"' in last, last

        direct()
        job()
        return self._median_ms(job), self._median_ms(direct)

    def _median_ms(self, action: Callable[[], object]) -> float:
        took_s: list[float] = []
        for _ in range(self.samples):
            began_s = time.perf_counter()
            action()
            took_s.append(time.perf_counter() - began_s)
        return statistics.median(took_s) * 1000

    def _submit(self, http: httpx2.Client) -> str:
        answer = http.post("/jobs/hash", files={"file": ("a.jpg", self.picture)})
        assert answer.is_success, answer.text
        return answer.json()["job_id"]


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


def remove_history(database: sa.Engine) -> None:
    """Remove the copies: real jobs have files."""
    jobs = sa.Table("jobs", sa.MetaData(), autoload_with=database)
    with database.begin() as connection:
        connection.execute(jobs.delete().where(jobs.c.bytes == 0))


def compare(machine: JobsMachine, engine: sa.Engine, bench: Bench, ended: int) -> None:
    """Measure with few ended jobs in the table, and with many."""
    with httpx2.Client(base_url=machine.urls[0], timeout=120) as http:
        before = bench.measure(http)
        say(f"{bench.queued} queued, few ended: {before}")
        add_history(engine, ended)
        after = bench.measure(http)
        remove_history(engine)
    say(f"{bench.queued} queued, {ended} ended: {after}")
    say(f"with {ended} ended jobs: {after.ratios(before)}")


def test_sqlite(
    machine: JobsMachine,
    samples: Samples,
    video: Path,
    full: bool,  # noqa: FBT001 - a fixture
) -> None:
    """Measure jobs in SQLite."""
    queued, measured, ended = (1000, 50, 100_000) if full else (60, 15, 20_000)
    bench = Bench(machine, samples.picture, video, queued, measured)
    compare(machine, machine.database(), bench, ended)


def test_postgresql(
    samples: Samples,
    video: Path,
    tmp_path: Path,
    full: bool,  # noqa: FBT001 - a fixture
) -> None:
    """Measure jobs in PostgreSQL."""
    if not full:
        pytest.skip("takes long: FULL=1")
    server = Postgres(tmp_path, fsync=True)
    server.start()
    machine = JobsMachine(tmp_path, jobs={"database": server.url})
    machine.up()
    url = sa.make_url(server.url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    bench = Bench(machine, samples.picture, video, 1000, 50)
    try:
        compare(machine, engine, bench, 100_000)
    finally:
        machine.down()
        server.close()
