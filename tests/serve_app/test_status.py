"""Live figures from what Prometheus would read: summed over replicas, quantiles as it has them."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve_app.status import Figures

TEXT = """\
# TYPE ray_cl_serve_requests_total counter
ray_cl_serve_requests_total{node="hash",outcome="ok",replica="a"} 90.0
ray_cl_serve_requests_total{node="hash",outcome="failed",replica="a"} 6.0
ray_cl_serve_requests_total{node="hash",outcome="ok",replica="b"} 4.0
ray_cl_serve_requests_total{node="exif",outcome="ok",replica="b"} 1.0
# TYPE ray_cl_serve_latency_seconds histogram
ray_cl_serve_latency_seconds_bucket{node="hash",replica="a",le="0.01"} 10.0
ray_cl_serve_latency_seconds_bucket{node="hash",replica="a",le="0.02"} 40.0
ray_cl_serve_latency_seconds_bucket{node="hash",replica="a",le="+Inf"} 40.0
ray_cl_serve_latency_seconds_bucket{node="hash",replica="b",le="0.01"} 10.0
ray_cl_serve_latency_seconds_bucket{node="hash",replica="b",le="0.02"} 50.0
ray_cl_serve_latency_seconds_bucket{node="hash",replica="b",le="+Inf"} 60.0
ray_cl_serve_latency_seconds_count{node="hash",replica="a"} 40.0
ray_cl_serve_latency_seconds_count{node="hash",replica="b"} 60.0
ray_cl_serve_latency_seconds_sum{node="hash",replica="a"} 0.5
ray_cl_serve_latency_seconds_sum{node="hash",replica="b"} 1.5
# TYPE ray_other_total counter
ray_other_total{node="hash"} 1000.0
"""


@pytest.fixture(scope="module")
def figures() -> Figures:
    """Parse the text of two replicas."""
    families = text_string_to_metric_families(TEXT)
    return Figures(sample for family in families for sample in family.samples)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, 101),
        ({"node": "hash"}, 100),
        ({"node": "hash", "outcome": "failed"}, 6),
        ({"node": "nobody"}, 0),
    ],
)
def test_total(figures: Figures, labels: dict[str, str], expected: int) -> None:
    """Whatever has the labels is summed; other metrics are not ours."""
    assert expected == figures.total("requests_total", **labels)


@pytest.mark.parametrize(
    ("quantile", "expected_s"),
    [
        (0.1, 0.005),  # in the middle of the first bucket, which has 20 of 100
        (0.2, 0.01),
        (0.55, 0.015),  # in the middle of the second, which has 70
        (0.99, 0.02),  # beyond the last bound nothing is known
    ],
)
def test_quantile(figures: Figures, quantile: float, expected_s: float) -> None:
    """Buckets of all replicas together, linear inside of each."""
    found_s = figures.quantile("latency_seconds", quantile, node="hash")
    assert expected_s == pytest.approx(found_s)


def test_mean(figures: Figures) -> None:
    """The mean is over all replicas."""
    assert pytest.approx(0.02) == figures.mean("latency_seconds", node="hash")


def test_nothing_counted(figures: Figures) -> None:
    """A node without a request has no mean and no quantile."""
    assert figures.mean("latency_seconds", node="exif") is None
    assert figures.quantile("latency_seconds", 0.5, node="exif") is None
    assert Figures([]).quantile("latency_seconds", 0.5) is None
