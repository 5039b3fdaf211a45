"""Choosing among settings: what counts, what is noise, and what is cheaper."""

import pytest

from serve_app.cli.tune.choice import Goal, choose, ranked
from serve_app.cli.tune.crew import Figures

COST = {"now": 300.0, "a": 200.0, "b": 100.0}


def figures(per_s: float, p50_ms: float = 10.0, p95_ms: float = 20.0) -> Figures:
    """Make figures; what is left out does not matter."""
    return Figures(per_s, p50_ms, p95_ms, cpu_ms=1.0, memory_mb=1.0)


@pytest.mark.parametrize(
    ("expected", "current", "measured"),
    [
        ("now", "now", {"now": figures(100)}),
        ("now", "now", {"now": figures(100), "a": figures(104)}),
        ("a", "now", {"now": figures(100), "a": figures(106)}),
        ("b", "now", {"now": figures(100), "a": figures(120), "b": figures(118)}),
        ("a", "now", {"now": figures(100), "a": figures(106), "b": figures(104)}),
        ("a", "now", {"now": figures(100), "a": figures(120), "b": figures(130, p95_ms=41)}),
        ("a", "now", {"now": figures(100, p95_ms=41), "a": figures(90)}),
        ("b", None, {"a": figures(100), "b": figures(99)}),
    ],
)
def test_throughput(expected: str, current: str | None, measured: dict[str, Figures]) -> None:
    """More requests a second win by 5 %, where nobody waits much longer; then what costs less."""
    assert expected == choose(measured, current, Goal.THROUGHPUT, COST.__getitem__)


def test_latency() -> None:
    """For one user the median counts, and not how many requests there are."""
    measured = {"now": figures(200, p50_ms=10), "a": figures(50, p50_ms=9)}
    assert "a" == choose(measured, "now", Goal.LATENCY, COST.__getitem__)
    assert "now" == choose(measured, "now", Goal.THROUGHPUT, COST.__getitem__)


def test_ranked() -> None:
    """The best comes first."""
    measured = {"a": figures(1, p50_ms=1), "b": figures(3, p50_ms=3), "c": figures(2, p50_ms=2)}
    assert ["b", "c", "a"] == ranked(measured, Goal.THROUGHPUT)
    assert ["a", "c", "b"] == ranked(measured, Goal.LATENCY)


def test_what_is_said() -> None:
    """A reason has the figure that counts."""
    assert "12.3/s" == Goal.THROUGHPUT.say(figures(12.34))
    assert "5.7 ms" == Goal.LATENCY.say(figures(1, p50_ms=5.66))
