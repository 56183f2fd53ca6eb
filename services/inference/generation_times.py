"""How long generations take, part by part, as those who wait for their tokens see it."""

from time import monotonic

from services.inference.engine import Delta, End, Event
from services.inference.histogram import Histogram

_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
_GAPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
_ANSWERS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 120.0, 240.0, 480.0, 960.0)


class GenerationTimes:
    """Of all generations of this process, in seconds.

    Attributes:
        tokens: generated so far.
        first_token: from asking for a place to the first token.
        between_tokens: from one delta of an answer to its next.
        queue: in the engine, until it began.
        prefill: from there to the first token.
        decode: from the first token to the last.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.first_token = Histogram(_WAITS)
        self.between_tokens = Histogram(_GAPS)
        self.queue = Histogram(_WAITS)
        self.prefill = Histogram(_WAITS)
        self.decode = Histogram(_ANSWERS)


class Stopwatch:
    """Takes the times of one generation."""

    __slots__ = ("_asked", "_first", "_last", "_open", "_times", "started")

    def __init__(self, times: GenerationTimes, answers: int) -> None:
        """`answers`: how many the generation has."""
        self._times = times
        self._asked = self.started = monotonic()
        self._first = 0.0
        self._last = [0.0] * answers
        self._open = answers

    def hear(self, event: Event, at: float) -> None:
        """Take note of an event that came at this time, in monotonic seconds. Called for every token."""
        if isinstance(event, Delta):
            times, last = self._times, self._last
            times.tokens += len(event.token_ids)
            if before := last[event.index]:
                times.between_tokens.observe(at - before)
            elif not self._first:
                self._begin(event, at)
            last[event.index] = at
        elif isinstance(event, End):
            self._open -= 1
            if self._open == 0 and self._first:
                self._times.decode.observe(at - self._first)

    def _begin(self, first: Delta, at: float) -> None:
        self._first = at
        self._times.first_token.observe(at - self._asked)
        self._times.queue.observe(first.queue_seconds)
        self._times.prefill.observe(max(0.0, at - self.started - first.queue_seconds))
