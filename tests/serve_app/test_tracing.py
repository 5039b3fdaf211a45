"""Spans inside one host: their names, order and attributes, with OpenTelemetry's own SDK."""

import sys
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deployments.runtime.errors import ToolNotInstalledError
from serve_app import tracing
from tests.serve_app.test_host import make_host, run


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Record spans in memory; a process can set its provider only once, so it is swapped."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def tree(spans: tuple[ReadableSpan, ...]) -> list[str]:
    """Write each span as the path of names from its root, in order of their start."""
    by_id = {span.context.span_id: span for span in spans if span.context}

    def path(span: ReadableSpan) -> str:
        return f"{path(by_id[span.parent.span_id])}/{span.name}" if span.parent else span.name

    return [path(span) for span in sorted(spans, key=lambda span: span.start_time or 0)]


async def test_one_request(exporter: InMemorySpanExporter) -> None:
    """Each node has a span below the caller's, with its phases and the size of its batch."""
    host = make_host(lengths={"batch_wait_timeout_s": 0.001})
    with trace.get_tracer("test").start_as_current_span("http"):
        await run(host, b"a bb", "lengths")
    spans = exporter.get_finished_spans()
    assert tree(spans) == [
        "http",
        "http/words",
        "http/words/prepare",
        "http/words/finish",
        "http/lengths",
        "http/lengths/prepare",
        "http/lengths/infer",
        "http/lengths/finish",
    ]
    (infer,) = (span for span in spans if span.name == "infer")
    assert dict(infer.attributes or {}) == {"batch_size": 2}


async def test_failure_and_lone_request(exporter: InMemorySpanExporter) -> None:
    """A failed node says what kind of failure; a request alone shows the batch it ran."""
    host = make_host()
    with trace.get_tracer("test").start_as_current_span("http"):
        await run(host, b"\0", "words")
        await run(host, b"a", "lengths")
    attributes = {span.name: dict(span.attributes or {}) for span in exporter.get_finished_spans()}
    errors = [dict(s.attributes or {}) for s in exporter.get_finished_spans() if s.name == "words"]
    assert errors == [{"error": "corrupt-media"}, {}]
    assert attributes["infer"] == {"batch_size": 1}


async def test_off(exporter: InMemorySpanExporter) -> None:
    """Without a recorded span around it, a request makes none."""
    await run(make_host(), b"a", "lengths")
    tracing.annotate(batch_size=1)
    assert exporter.get_finished_spans() == ()


def test_exporter_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the message says how to install it, and what works without."""
    module = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ToolNotInstalledError, match=r"pip install 'cl-ml-serve\[otlp\]'"):
        tracing.otlp_exporter()
