"""The spans of a turn, for those who trace requests across services: numbers and names, nothing of what was said."""

from contextlib import AbstractContextManager, nullcontext

from opentelemetry.trace import INVALID_SPAN, NoOpTracer, Span, SpanKind, StatusCode, Tracer, set_span_in_context

from services.inference.engine import GenerationRequest
from services.live_turn import LiveTurn
from services.turn_end import TurnEnd

NO_TRACER = NoOpTracer()


class TurnTrace:
    """One span for the turn, and one for each of its parts; named as OpenTelemetry's conventions for models say."""

    def __init__(self, tracer: Tracer, model: str, request: GenerationRequest) -> None:
        self._tracer = tracer
        self._span = INVALID_SPAN if tracer is NO_TRACER else self._begun(model, request)

    def _begun(self, model: str, request: GenerationRequest) -> Span:
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "chatglm",
            "gen_ai.request.model": model,
            "gen_ai.request.max_tokens": request.max_tokens,
            "gen_ai.response.id": request.id,
        }
        return self._tracer.start_span(f"chat {model}", kind=SpanKind.INTERNAL, attributes=attributes)

    def part(self, name: str) -> AbstractContextManager[Span]:
        """A part of it, while this context lasts. An exception is not recorded: its text may repeat what was said."""
        if self._tracer is NO_TRACER:
            # To be the current span costs, even for one that is none.
            return nullcontext(INVALID_SPAN)
        return self._tracer.start_as_current_span(
            name, set_span_in_context(self._span), record_exception=False, set_status_on_exception=False
        )

    def refused(self, error: BaseException) -> None:
        """It never began."""
        self._fail(getattr(error, "code", None) or type(error).__qualname__)
        self._span.end()

    def ended(self, turn: LiveTurn, end: TurnEnd) -> None:
        """It is over."""
        if not self._span.is_recording():
            self._span.end()
            return
        if turn.first_token_at is not None:
            self._span.add_event("first_token", timestamp=int(turn.first_token_at.timestamp() * 1e9))
        self._span.set_attributes(
            {
                "gen_ai.usage.input_tokens": end.usage.prompt_tokens,
                "gen_ai.usage.cache_read.input_tokens": end.usage.cached_tokens,
                "gen_ai.usage.output_tokens": end.usage.completion_tokens,
                "gen_ai.response.finish_reasons": end.finish_reasons,
                "chatglm.turn.status": end.status.value,
                "chatglm.turn.queue_seconds": turn.queue_seconds,
            }
        )
        if end.error is not None:
            self._fail(end.error.code or end.status.value)
        self._span.end()

    def _fail(self, code: str) -> None:
        self._span.set_attribute("error.type", code)
        self._span.set_status(StatusCode.ERROR)
