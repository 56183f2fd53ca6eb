"""What became of turns, counted: by model, never by tenant, whose number no monitoring could bear."""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram

from database.models import TurnStatus
from services.turn_end import TurnEnd

_SECONDS = (
    0.3,
    0.5,
    0.8,
    1.0,
    1.5,
    2.0,
    2.5,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    40.0,
    50.0,
    60.0,
    120.0,
    240.0,
    480.0,
    960.0,
)


class TurnMetrics:
    """Of this process's turns; vLLM's names but for the prefix."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """`registry`: where Prometheus finds them."""
        model = ["model_name"]
        prompt_tokens = Counter("chatglm:prompt_tokens", "Tokens of prompts.", model, registry=registry)
        success = Counter(
            "chatglm:request_success",
            "Answers of turns that ended well.",
            [*model, "finished_reason"],
            registry=registry,
        )
        turns = Counter("chatglm:turns", "Turns that ended, and how.", [*model, "status"], registry=registry)
        latency = Histogram(
            "chatglm:e2e_request_latency_seconds",
            "From a turn's begin to its end.",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        # Looked up once: the library checks the labels anew each time, which takes longer than counting.
        self._prompt_tokens, self._success = cache(prompt_tokens.labels), cache(success.labels)
        self._turns, self._latency = cache(turns.labels), cache(latency.labels)

    def ended(self, model: str, end: TurnEnd, seconds: float) -> None:
        """A turn of this model has ended after so many seconds, as its listeners are told."""
        self._prompt_tokens(model).inc(end.usage.prompt_tokens)
        self._turns(model, end.status.value).inc()
        self._latency(model).observe(seconds)
        if end.status == TurnStatus.COMPLETED:
            for reason in end.finish_reasons:
                self._success(model, reason).inc()
