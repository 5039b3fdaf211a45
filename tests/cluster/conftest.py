"""One real cluster for the tests of several machines: a head and two nodes, in one network."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.runtime.models import ModelStore, default_cache_folder
from deployments.runtime.types import Media
from tests.cluster.cluster import Cluster, join
from tests.cluster.crashing_capability import write_package
from tests.cluster.figures import FIGURES, say
from tests.cluster.lan import network, why_not
from tests.cluster.one_machine import OneMachine


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests have measured."""
    if FIGURES:
        terminalreporter.section("figures")
        terminalreporter.write("\n".join(FIGURES) + "\n")


@pytest.fixture(scope="session")
def machine(store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneMachine]:
    """Run one stack for all tests of a single machine; each begins where the one before ended."""
    store.pull("blazeface_short_range")
    folder = tmp_path_factory.mktemp("machine")
    (folder / "packages").mkdir()
    write_package(folder / "packages")
    machine = OneMachine(folder, folder / "packages")
    assert machine.run("up", "--config", machine.file()).returncode == 0
    yield machine
    assert machine.run("down").returncode == 0


@pytest.fixture(scope="session")
def cluster(store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start the cluster once, by the commands that a person would type."""
    del store  # installs the models, for the head alone
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("cluster")
    config = Path(__file__).with_name("cluster.yaml")
    with network(["head", "pi-a", "gpu-b", "stranger"], folder) as (head, a, b, stranger):
        models = head.cache / "cl-ml-serve" / "models"
        models.parent.mkdir(parents=True)
        models.symlink_to(default_cache_folder())
        say(head.cl_serve("up", "--config", str(config), "--offline").stdout)
        cluster = Cluster(head, (a, b), stranger)
        for node in cluster.nodes:
            say(join(cluster, node))
        cluster.wait_until_whole()
        yield cluster
        for node in cluster.nodes:
            node.cl_serve("node", "leave", "--now")
        head.cl_serve("down")
        left = {machine.name: machine.pids() for machine in (*cluster.members, stranger)}
        assert {name: [] for name in left} == left


@pytest.fixture(scope="session")
def face(photo: Callable[[str], Media]) -> bytes:
    """Give a photograph with a face."""
    return photo("obama").data
