"""One runner leads: locks of a file and of PostgreSQL, and what becomes of jobs when it changes."""

import asyncio
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa

from serve_app.jobs.database import open_database
from serve_app.jobs.lead import DatabaseLead, FileLead, Lead
from tests.postgres import Postgres
from tests.serve_app.jobs.local import service
from tests.serve_app.jobs.steered import Steered, request

HOLDER = """
import asyncio, sys, time
from pathlib import Path
from serve_app.jobs.lead import FileLead
asyncio.run(FileLead(Path(sys.argv[1])).take())
print("taken", flush=True)
time.sleep(3600)
"""


async def follows(first: Lead, second: Lead) -> None:
    """Check that the second one leads when the first one lets go, and not before."""
    await first.take()
    waiting = asyncio.ensure_future(second.take())
    done, _ = await asyncio.wait({waiting}, timeout=0.5)
    assert not done
    first.release()
    await asyncio.wait_for(waiting, 10)
    second.release()


async def test_a_file_has_one_leader(tmp_path: Path) -> None:
    """The second waits for the first."""
    await follows(FileLead(tmp_path / "lock"), FileLead(tmp_path / "lock"))


async def test_a_leader_that_is_killed_lets_go(tmp_path: Path) -> None:
    """The system gives its lock to the next."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:  # noqa: ASYNC220 - nothing else runs
        assert holder.stdout is not None
        assert b"taken\n" == holder.stdout.readline()
        waiting = asyncio.ensure_future(FileLead(tmp_path / "lock").take())
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done
        holder.kill()
        await asyncio.wait_for(waiting, 10)


async def test_a_database_has_one_leader(postgres_url: str, tmp_path: Path) -> None:
    """The same over PostgreSQL."""
    databases = [open_database(postgres_url, tmp_path) for _ in range(2)]
    await follows(DatabaseLead(databases[0]), DatabaseLead(databases[1]))
    for database in databases:
        database.dispose()


async def test_jobs_outlive_a_restart_of_postgresql(tmp_path: Path) -> None:
    """Without the database submissions are refused with 503; afterwards everything is done."""
    server = Postgres(tmp_path)
    await asyncio.to_thread(server.start)
    worker = Steered(held=True)
    try:
        async with service(tmp_path / "jobs", worker, database=server.url) as local:
            await local.runner.submit(request(0))
            await worker.begun.wait()
            await local.runner.submit(request(1))
            await asyncio.to_thread(server.kill)
            refused = await local.http.post("/jobs/words", files={"file": ("a", b"one")})
            assert (503, "node-unavailable") == (
                refused.status_code,
                refused.json()["type"].rpartition(":")[2],
            )
            await asyncio.to_thread(server.start)
            worker.go_on.set()
            jobs = [await local.ended(request(number).job_id) for number in (0, 1)]
            assert ["completed"] * 2 == [job["status"] for job in jobs]
    finally:
        server.close()


async def test_jobs_are_kept_in_postgresql(postgres_url: str, tmp_path: Path) -> None:
    """From the submission to the result."""
    async with service(tmp_path, database=postgres_url) as local:
        job = await local.ended(await local.submit())
        assert ("completed", [3, 5]) == (job["status"], job["task_output"]["lengths"])
        assert sa.inspect(local.runner._table.engine).has_table("jobs")
