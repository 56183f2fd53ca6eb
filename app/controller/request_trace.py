"""The span of a request, in the trace of whoever sent it."""

from fastapi.routing import APIRoute
from opentelemetry.trace import SpanKind, StatusCode, Tracer, format_trace_id, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

_PROPAGATOR = TraceContextTextMapPropagator()
_METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}


class RequestTrace:
    """Goes on with the trace that the header `traceparent` names, or begins one; the log's lines have its id.

    Neither the path, which has ids, nor the query, which may have what was said, is in the span: the route is.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self.app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, within a span."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        caller = _PROPAGATOR.extract(dict(Headers(scope=scope)))
        span = self._tracer.start_span(method, caller, SpanKind.SERVER, {"http.request.method": method})
        bind_contextvars(trace_id=format_trace_id(span.get_span_context().trace_id))

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
                if message["status"] >= 500:
                    span.set_status(StatusCode.ERROR)
            await send(message)

        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                await self.app(scope, receive, noted)
            finally:
                route = scope.get("route")
                if isinstance(route, APIRoute):
                    span.update_name(f"{method} {route.path_format}")
                    span.set_attribute("http.route", route.path_format)
