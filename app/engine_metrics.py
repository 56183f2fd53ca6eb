"""The engine's numbers for Prometheus, under vLLM's names but for the prefix."""

from collections.abc import Iterator
from contextlib import suppress

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from services.chat_service import ChatService
from services.inference.engine_client import EngineClient
from services.inference.engine_refusal import EngineUnavailable
from services.inference.histogram import Histogram

PREFIX = "chatglm:"
_LABELS = ("model_name",)


class EngineMetrics(Collector):
    """Reads what the engine's client keeps, when Prometheus asks: nothing is done for it on a token's way."""

    def __init__(self, engine: EngineClient, chat: ChatService) -> None:
        """`chat` knows the model's name, once there is one."""
        self._engine = engine
        self._chat = chat

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        yield GaugeMetricFamily(PREFIX + "engine_ready", "Whether the engine can answer.", float(self._engine.is_ready))
        yield CounterMetricFamily(PREFIX + "engine_losses", "How often a ready engine was lost.", self._engine.losses)
        with suppress(EngineUnavailable):
            yield from self._of([self._chat.model])

    def _of(self, model: list[str]) -> Iterator[Metric]:
        now, times = self._engine.occupancy, self._engine.times
        for gauge, about, value in (
            ("num_requests_running", "Answers that the engine generates.", now.running),
            ("num_requests_waiting", "Requests that wait for the engine.", now.waiting),
            ("kv_cache_usage_perc", "The part of the key-value cache in use, from 0 to 1.", now.cache_usage),
        ):
            family = GaugeMetricFamily(PREFIX + gauge, about, labels=_LABELS)
            family.add_metric(model, float(value))
            yield family
        for counter, about, value in (
            ("prefix_cache_queries", "Tokens of prompts that were looked for in the cache.", now.prefix_queries),
            ("prefix_cache_hits", "Tokens of prompts that were found there.", now.prefix_hits),
            ("generation_tokens", "Tokens generated.", times.tokens),
        ):
            count = CounterMetricFamily(PREFIX + counter, about, labels=_LABELS)
            count.add_metric(model, value)
            yield count
        for name, about, histogram in (
            ("time_to_first_token_seconds", "From asking the engine to the first token.", times.first_token),
            ("inter_token_latency_seconds", "Between two tokens of an answer.", times.between_tokens),
            ("request_queue_time_seconds", "In the engine's queue.", times.queue),
            ("request_prefill_time_seconds", "From the queue's end to the first token.", times.prefill),
            ("request_decode_time_seconds", "From the first token to the last.", times.decode),
        ):
            shape = HistogramMetricFamily(PREFIX + name, about, labels=_LABELS)
            shape.add_metric(model, _buckets(histogram), histogram.sum)
            yield shape


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    found, below = [], 0
    for bound, count in zip([*histogram.bounds, float("inf")], histogram.counts, strict=True):
        below += count
        found.append((floatToGoString(bound), float(below)))  # type: ignore[no-untyped-call]
    return found
