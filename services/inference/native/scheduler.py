"""Which tokens of which requests the next step computes."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from services.inference.engine import GenerationRequest
from services.inference.native.cache import SpanAllocator
from services.inference.native.sequence import Chunk, Sequence


@dataclass(frozen=True, slots=True)
class Plan:
    """One step.

    Attributes:
        chunks: what to compute, decodes first.
        expired: requests that were not started by their deadline and are forgotten now.
    """

    chunks: list[Chunk]
    expired: list[Sequence]


class Scheduler:
    """Admits waiting requests tenant by tenant and divides each step between those that run.

    A running request keeps a cache span for its whole length, so it never has to be stopped. The next waiting request
    is not overtaken while it waits for a span: what runs ends, so its turn comes.

    Args:
        spans: the cache.
        max_running: requests computed in one step at the most.
        max_step_tokens: tokens computed in one step at the most. It bounds how long a step with a long prompt keeps
            the running answers waiting.

    Raises:
        ValueError: `max_step_tokens` is below `max_running`: a step could not advance all that runs.
    """

    def __init__(self, spans: SpanAllocator, *, max_running: int, max_step_tokens: int) -> None:
        if not 1 <= max_running <= max_step_tokens:
            raise ValueError(f"needs 1 <= max_running ({max_running}) <= max_step_tokens ({max_step_tokens})")
        self._spans = spans
        self._max_running = max_running
        self._max_step_tokens = max_step_tokens
        self._running: dict[str, Sequence] = {}
        self._waiting: dict[str, Sequence] = {}
        self._queues: dict[str, deque[Sequence]] = {}
        self._turns: deque[str] = deque()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._running and not self._waiting

    @property
    def running(self) -> list[Sequence]:
        """The requests that hold a span, in the order they were admitted."""
        return list(self._running.values())

    @property
    def waiting(self) -> list[Sequence]:
        """The requests that do not, in the order they arrived."""
        return list(self._waiting.values())

    def add(self, request: GenerationRequest) -> None:
        """Queue a request behind its tenant's.

        Raises:
            ValueError: it can never fit the cache, or its id is in use.
        """
        sequence = Sequence(request)
        if sequence.span > self._spans.capacity:
            raise ValueError(f"{sequence.span} tokens do not fit a cache of {self._spans.capacity}")
        if request.id in self._running or request.id in self._waiting:
            raise ValueError(f"request id {request.id} is in use")
        self._waiting[request.id] = sequence
        if request.tenant not in self._queues:
            self._queues[request.tenant] = deque()
            self._turns.append(request.tenant)
        self._queues[request.tenant].append(sequence)

    def remove(self, request_id: str) -> None:
        """Forget a request, running or waiting; unknown ids are ignored."""
        running = self._running.pop(request_id, None)
        if running is not None:
            self._spans.release(running.start)
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            self._leave_queue(waiting)

    def plan(self, now: float) -> Plan:
        """Decide the next step.

        Args:
            now: monotonic seconds, compared with the requests' deadlines.
        """
        expired = [sequence for sequence in self._waiting.values() if _late(sequence.request.deadline, now)]
        for sequence in expired:
            self.remove(sequence.request.id)
        self._admit()
        return Plan(self._divide(self._running.values()), expired)

    def _admit(self) -> None:
        while self._turns and len(self._running) < self._max_running:
            tenant = self._turns[0]
            sequence = self._queues[tenant][0]
            start = self._spans.allocate(sequence.span)
            if start is None:
                return
            sequence.start = start
            self._running[sequence.request.id] = self._waiting.pop(sequence.request.id)
            self._turns.rotate(-1)
            self._leave_queue(sequence)

    def _divide(self, running: Iterable[Sequence]) -> list[Chunk]:
        decoding: list[Sequence] = []
        prefilling: list[Sequence] = []
        for sequence in running:
            (decoding if sequence.pending == 1 else prefilling).append(sequence)
        chunks = [Chunk(sequence, 1) for sequence in decoding]
        budget = self._max_step_tokens - len(chunks)
        # Shortest first, so that what a short prompt leaves of its equal share goes to the longer ones.
        prefilling.sort(key=lambda sequence: sequence.pending)
        for index, sequence in enumerate(prefilling):
            count = min(sequence.pending, budget // (len(prefilling) - index))
            chunks.append(Chunk(sequence, count))
            budget -= count
        return chunks

    def _leave_queue(self, sequence: Sequence) -> None:
        tenant = sequence.request.tenant
        queue = self._queues[tenant]
        queue.remove(sequence)
        if not queue:
            del self._queues[tenant]
            self._turns.remove(tenant)


def _late(deadline: float | None, now: float) -> bool:
    return deadline is not None and now > deadline
