"""Fixtures of the reliability tests of jobs, and their figures at the end of a run."""

import os
from collections.abc import Callable

import pytest

from deployments.runtime.models import ModelStore
from deployments.runtime.random_media import VideoGenerator
from deployments.runtime.types import Media
from tests.cluster.figures import FIGURES
from tests.jobs.orders import Samples
from tests.jobs.systems import PHOTO

pytest.register_assert_rewrite("tests.jobs.audit", "tests.jobs.blocking", "tests.jobs.clients")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests have measured."""
    if FIGURES:
        terminalreporter.section("figures")
        terminalreporter.write("\n".join(FIGURES) + "\n")


@pytest.fixture(scope="session")
def full() -> bool:
    """Tell whether to run at full size: ``make test-jobs FULL=1``."""
    return bool(os.environ.get("FULL"))


@pytest.fixture(scope="session")
def samples(
    store: ModelStore,
    photo: Callable[[str], Media],
    tmp_path_factory: pytest.TempPathFactory,
) -> Samples:
    """Give what is sent, with the models installed that it is for."""
    del store  # installs the models
    video = tmp_path_factory.mktemp("sent") / "video.mp4"
    VideoGenerator(size=(320, 240), duration_s=2, with_audio=True).write(video)
    return Samples(photo("obama").data, PHOTO.read_bytes(), video)
