"""The spans of a turn, in the trace of whoever asked."""

import asyncio
import json
import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode, format_span_id, format_trace_id
from structlog.contextvars import get_contextvars

from app.tracing import Tracing, tracing_to
from services.turn_trace import NO_TRACER
from tests.service import NEW_MESSAGE, Service, running_service, script, stream

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def service(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, migrated_sqlite: Path, tmp_path: Path
) -> AsyncIterator[Service]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider.get_tracer("test"), provider.shutdown)
    monkeypatch.setattr("app.main.tracing_to", lambda _endpoint: tracing)
    path = tmp_path / "chatglm.db"
    shutil.copy(migrated_sqlite, path)
    async with running_service(f"sqlite:///{path}", tmp_path) as service:
        exporter.clear()
        yield service


async def spans(exporter: InMemorySpanExporter, last: str) -> dict[str, ReadableSpan]:
    """Those that have ended, once this one has: a request's ends after its last byte."""
    async with asyncio.timeout(60):
        while last not in (found := {span.name: span for span in exporter.get_finished_spans()}):
            await asyncio.sleep(0)
    return found


def context(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


async def test_a_turn_is_traced_from_the_callers_span_to_the_commit(
    service: Service, exporter: InMemorySpanExporter
) -> None:
    service.ours.headers["traceparent"] = f"00-{TRACE}-{CALLER}-01"
    last = (await stream(service.ours, script("abcd")))[-1]
    found = await spans(exporter, f"POST {NEW_MESSAGE}")
    request, turn = found[f"POST {NEW_MESSAGE}"], found["chat scripted"]
    assert {format_trace_id(context(span).trace_id) for span in found.values()} == {TRACE}
    assert request.parent is not None
    assert format_span_id(request.parent.span_id) == CALLER
    assert turn.parent == request.get_span_context()
    assert {name for name, span in found.items() if span.parent == turn.get_span_context()} == {
        "begin turn",
        "generate",
        "end turn",
    }
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 200
    assert turn.attributes is not None
    assert turn.attributes["gen_ai.usage.input_tokens"] == last["usage"]["prompt_tokens"]
    assert turn.attributes["gen_ai.usage.output_tokens"] == last["usage"]["completion_tokens"]
    assert turn.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert turn.attributes["chatglm.turn.status"] == "completed"
    assert [event.name for event in turn.events] == ["first_token"]


async def test_what_fails_is_marked_and_says_nothing_of_what_was_said(
    service: Service, exporter: InMemorySpanExporter
) -> None:
    await stream(service.ours, script("canary", fail_after=2))
    await service.ours.get("/chat/get/messages/", params={"q": "canary"})
    found = await spans(exporter, "GET /chat/get/messages/")
    turn = found["chat scripted"]
    assert turn.status.status_code is StatusCode.ERROR
    assert turn.status.description is None
    assert turn.attributes is not None
    assert turn.attributes["error.type"] == "generation_failed"
    for span in found.values():
        assert "canary" not in json.dumps(json.loads(span.to_json()))


async def test_a_forged_or_missing_parent_begins_a_trace(service: Service, exporter: InMemorySpanExporter) -> None:
    for headers in ({}, {"traceparent": "00-canary-x-01"}):
        await service.ours.get("/v1/models", headers=headers)
    async with asyncio.timeout(60):
        while len(ended := exporter.get_finished_spans()) < 2:
            await asyncio.sleep(0)
    first, second = ended
    assert first.parent is None
    assert second.parent is None
    assert context(first).trace_id != context(second).trace_id


def test_without_a_collector_nothing_is_traced() -> None:
    assert tracing_to(None).tracer is NO_TRACER


def test_a_collector_that_is_away_does_not_keep_the_service_from_stopping() -> None:
    tracing = tracing_to("http://127.0.0.1:1")
    tracing.tracer.start_span("a span").end()
    tracing.close()


class Bound(logging.Handler):
    """Keeps what a line of the log would have."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.fields.append(get_contextvars())


async def test_the_logs_lines_name_the_trace(service: Service, exporter: InMemorySpanExporter) -> None:
    access, handler = logging.getLogger("app.access"), Bound()
    level = access.level
    access.setLevel(logging.INFO)
    access.addHandler(handler)
    await service.ours.get("/v1/models", headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
    await spans(exporter, "GET /v1/models")
    access.removeHandler(handler)
    access.setLevel(level)
    assert [fields["trace_id"] for fields in handler.fields] == [TRACE]
