"""Jobs while whatever works on them is killed at random moments, again and again.

The seed is printed, so that a run's choices can be had again: ``CL_TEST_SEED=… make test-jobs``.
"""

import itertools
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.cluster.figures import say
from tests.cluster.lan import why_not
from tests.jobs import audit
from tests.jobs.clients import Clients, Service
from tests.jobs.listening import Receiver, listening, receiving
from tests.jobs.orders import Mix, Order, Samples
from tests.jobs.relay import relayed
from tests.jobs.systems import (
    BRIDGE,
    JobsMachine,
    System,
    Victims,
    network_document,
    two_machines,
)
from tests.mosquitto import Mosquitto
from tests.postgres import Postgres

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(3600)]

AT_ONCE = 0.15
"""Share of kills that come while the one before is still being recovered from."""

LONGEST_PAUSE_S = 0.8
"""Before a kill: a random part of it."""


@dataclass(frozen=True)
class Size:
    """How many jobs are in flight at each kill, and which kills there are."""

    in_flight: int
    kills: int
    surely: tuple[str, ...]
    """Kinds of victims that come at least once; the others are drawn."""


@dataclass(frozen=True)
class Surroundings:
    """What a system has around it: its broker, its database, and where webhooks are received."""

    broker: Mosquitto
    database: sa.Engine
    receiver: Receiver
    schema: str | None = None


def choose(victims: Victims, size: Size, dice: random.Random) -> list[str]:
    """Draw the kinds of victims, in a random order."""
    weights = [weight for weight, _ in victims.values()]
    drawn = dice.choices(list(victims), weights, k=size.kills - len(size.surely))
    kinds = [*size.surely, *drawn]
    dice.shuffle(kinds)
    return kinds


def storm(
    victims: Victims,
    service: Service,
    orders: Iterator[Order],
    size: Size,
    dice: random.Random,
) -> tuple[Clients, list[audit.Kill]]:
    """Keep so many jobs in flight, kill, and wait until all of them have ended."""
    clients = Clients(service)
    kills: list[audit.Kill] = []
    with clients.at_work():
        for kind in choose(victims, size, dice):
            if not kills or dice.random() >= AT_ONCE:
                missing = size.in_flight - service.in_flight() - clients.waiting
                for order in itertools.islice(orders, max(0, missing)):
                    clients.order(order)
                time.sleep(dice.uniform(0, LONGEST_PAUSE_S))  # the moment is what is random
            kills.append(audit.Kill(kind, time.time()))
            victims[kind][1]()
        clients.wait()
    service.wait_until_idle()
    return clients, kills


def survive(
    system: System,
    victims: Victims,
    size: Size,
    orders: Mix,
    around: Surroundings,
) -> None:
    """Kill, and look at everything afterwards."""
    service = Service(system.urls)
    with listening(around.broker.port) as listener:
        clients, kills = storm(victims, service, iter(orders), size, orders.dice)
        audit.check_queue(around.database, around.schema)
    jobs = audit.check_jobs(service, clients.placed)
    audit.say_figures(jobs, kills)
    audit.check_files(system, clients.placed, jobs)
    audit.check_told(clients.placed, jobs, around.receiver, listener)
    audit.check_leftovers(system, service, jobs)


@pytest.fixture
def dice() -> random.Random:
    """Give the dice of a run."""
    seed = int(os.environ.get("CL_TEST_SEED") or random.randrange(10**6))  # noqa: S311 - no secret
    say(f"CL_TEST_SEED={seed}")
    return random.Random(seed)  # noqa: S311 - no secret


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Run a broker."""
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


def restarted(server: Mosquitto | Postgres) -> None:
    """Kill a server, and start it again."""
    server.kill()
    server.start()


def test_one_machine(
    samples: Samples,
    broker: Mosquitto,
    dice: random.Random,
    tmp_path: Path,
    full: bool,  # noqa: FBT001 - a fixture
) -> None:
    """Whatever is killed on one machine with SQLite, each job ends once, with one result."""
    with receiving() as receiver:
        machine = JobsMachine(
            tmp_path,
            jobs={"webhooks": {"allowed_urls": [receiver.url]}},
            mqtt={"host": "127.0.0.1", "port": broker.port},
        )
        victims = machine.victims() | {"broker": (1, lambda: restarted(broker))}
        surely = ("ingress", "hls_streaming", "job runner", "whole stack")
        size = Size(200, 50, tuple(victims)) if full else Size(24, 8, surely)
        machine.up()
        try:
            around = Surroundings(broker, machine.database(), receiver)
            survive(machine, victims, size, Mix(samples, dice, receiver.url), around)
        finally:
            machine.down()


def test_two_machines(
    samples: Samples,
    broker: Mosquitto,
    dice: random.Random,
    tmp_path: Path,
    full: bool,  # noqa: FBT001 - a fixture
) -> None:
    """The same on two machines with PostgreSQL, where a whole machine may go, and come back."""
    if reason := why_not():
        pytest.skip(reason)
    server = Postgres(tmp_path)
    server.start()
    try:
        _run_on_two_machines(samples, broker, server, dice, tmp_path, full=full)
    finally:
        server.close()


def _run_on_two_machines(  # noqa: PLR0913 - all that they need
    samples: Samples,
    broker: Mosquitto,
    server: Postgres,
    dice: random.Random,
    folder: Path,
    *,
    full: bool,
) -> None:
    url = sa.make_url(server.url)
    assert url.port is not None
    database = sa.create_engine(url.set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with (
        two_machines(folder) as machines,
        relayed(BRIDGE, url.port),
        relayed(BRIDGE, broker.port),
        receiving(BRIDGE) as receiver,
    ):
        jobs = {
            "database": url.set(host=BRIDGE).render_as_string(),
            "webhooks": {"allowed_urls": [receiver.url]},
        }
        mqtt = {"host": BRIDGE, "port": broker.port}
        machines.up(network_document(folder, jobs, mqtt))
        victims = machines.victims() | {
            "broker": (1, lambda: restarted(broker)),
            "database": (2, lambda: restarted(server)),
        }
        size = Size(200, 50, tuple(victims)) if full else Size(20, 3, ("node", "database"))
        around = Surroundings(broker, database, receiver, schema="dbos")
        survive(machines, victims, size, Mix(samples, dice, receiver.url), around)
        machines.down()
