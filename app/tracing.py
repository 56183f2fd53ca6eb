"""Traces, for OpenTelemetry's collector."""

from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.trace import Tracer

from app.version import VERSION
from services.turn_trace import NO_TRACER

_NAME = "chatglm-api"
# A collector that is away must not keep a service from stopping.
_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Tracing:
    """Makes spans; `close` sends what has not been sent."""

    tracer: Tracer = NO_TRACER
    close: Callable[[], object] = lambda: None


def tracing_to(endpoint: str | None) -> Tracing:
    """Traces for a collector at this URL; none for None. Needs the extra `otel`."""
    if endpoint is None:
        return Tracing()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(
        resource=Resource.create({"service.name": _NAME, "service.version": VERSION}), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider.get_tracer(_NAME, VERSION), provider.shutdown)
