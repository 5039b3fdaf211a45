"""Spans of one request, where ``tracing_config`` in the YAML asks for them.

Serve opens the spans of the HTTP request and of each hop and carries the trace over handles;
here each node gets a span below its hop, with what it spends its time on. A span is made only
inside one that is recorded, so with tracing off, or a request that is not sampled, it costs one
look at the current context. docs/observability.md says how to switch it on.
"""

from contextlib import AbstractContextManager, nullcontext

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from deployments.runtime.errors import ToolNotInstalledError

_OFF = nullcontext()


def span(name: str) -> AbstractContextManager[object]:
    """Open a span below the current one, or nothing where none is recorded."""
    if not trace.get_current_span().is_recording():
        return _OFF
    return trace.get_tracer("cl_ml_serve").start_as_current_span(name)


def annotate(**attributes: str | float) -> None:
    """Set attributes of the current span, if one is recorded."""
    current = trace.get_current_span()
    if current.is_recording():
        current.set_attributes(attributes)


def otlp_exporter() -> list[SpanProcessor]:
    """Send spans to a collector over HTTP: ``tracing_config.exporter_import_path`` names this.

    OpenTelemetry's own variables say where: ``OTEL_EXPORTER_OTLP_ENDPOINT``, by default
    http://localhost:4318.

    Raises:
        ToolNotInstalledError: the extra ``otlp`` is not installed.

    """
    try:
        # pyright: ignore[reportMissingImports] below, and the import here: an optional extra.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise ToolNotInstalledError(
            "tracing_config.exporter_import_path: sending traces needs one more package; "
            "install it with `pip install 'cl-ml-serve[otlp]'`, or leave the key out to have "
            "traces written beside the logs",
        ) from error
    return [BatchSpanProcessor(OTLPSpanExporter())]
