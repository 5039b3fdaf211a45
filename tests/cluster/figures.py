"""What the tests measure, kept until the run's summary shows it."""

import os

FIGURES: list[str] = []


def say(text: object) -> None:
    """Keep a line for the summary, under the name of the running test."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].partition(" ")[0]
    FIGURES.append(f"{test}: {str(text).strip()}")
