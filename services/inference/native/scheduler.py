"""Which tokens of which requests the next step computes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic

from services.inference.engine import GenerationRequest
from services.inference.native.block_manager import BlockManager
from services.inference.native.fairness import Turns
from services.inference.native.sequence import Chunk, Matcher, Sequence
from services.inference.native.tenants import Tenants
from services.inference.occupancy import Occupancy

_QUANTUM = 256
_CAUTIOUS_STEPS = 1000


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
    """Lets requests in tenant by tenant and divides each step between those that run.

    What runs holds cache for the tokens it has, not for all that it may get. When the cache is full, or a tenant has
    more than its share of the seats while another waits with less, the request that came in last is put back to wait
    and computed again later; what it had is often still in the cache then.

    Args:
        blocks: the cache.
        max_running: requests computed in one step at the most.
        max_step_tokens: tokens computed in one step at the most. It bounds how long a step with a long prompt keeps
            the running answers waiting.
        max_step_scores: of them, tokens of prompts whose log-probabilities are wanted; None for no other bound. Each
            takes memory for the whole vocabulary.
        clock: seconds, to tell how long a request has waited.

    Raises:
        ValueError: `max_step_tokens` leaves no place for a prompt beside `max_running` answers.
    """

    def __init__(
        self,
        blocks: BlockManager,
        *,
        max_running: int,
        max_step_tokens: int,
        max_step_scores: int | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if not 1 <= max_running < max_step_tokens:
            raise ValueError(f"needs 1 <= max_running ({max_running}) < max_step_tokens ({max_step_tokens})")
        self._blocks = blocks
        self._largest = max_step_tokens, max_step_scores or max_step_tokens
        self._max_step_tokens, self._max_step_scores = self._largest
        self._cautious = 0
        self._seats = max_running
        self._free_slots = list(range(max_running - 1, -1, -1))
        self._turns = Turns(_QUANTUM)
        self._tenants = Tenants()
        self._stood_up: set[Sequence] = set()
        self._clock = clock
        self._prefix_queries = self._prefix_hits = 0

    @property
    def idle(self) -> bool:
        """Whether nobody runs or waits."""
        return not self._tenants.running and not self._tenants.waiting

    @property
    def occupancy(self) -> Occupancy:
        """Who runs and waits, and what is in the cache. May be asked from any thread."""
        return Occupancy(
            running=len(self._tenants.running),
            waiting=len(self._tenants.waiting),
            cache_usage=1 - self._blocks.free / self._blocks.count,
            prefix_queries=self._prefix_queries,
            prefix_hits=self._prefix_hits,
        )

    @property
    def running(self) -> list[Sequence]:
        """The requests that have a seat, in the order they got it."""
        return list(self._tenants.running.values())

    @property
    def waiting(self) -> list[Sequence]:
        """The requests that have none."""
        return list(self._tenants.waiting.values())

    def add(self, request: GenerationRequest, matcher: Matcher | None = None) -> None:
        """Queue a request's first answer behind its tenant's.

        Raises:
            ValueError: it can never fit the cache, or its id is in use.
        """
        sequence = Sequence(request, matcher=matcher, arrived=self._clock())
        if self._blocks.blocks_for(sequence.span) > self._blocks.count:
            raise ValueError(f"{sequence.span} tokens do not fit {self._blocks.count} blocks of {self._blocks.size}")
        if request.id in self._tenants:
            raise ValueError(f"request id {request.id} is in use")
        self._tenants.wait(sequence)
        self._turns.enter(request.tenant, request.weight)

    def branch(self, first: Sequence, index: int, matcher: Matcher | None = None) -> None:
        """Queue another answer of a request whose prompt is computed, before its tenant's: it shares that prompt."""
        self._tenants.wait_first(Sequence(first.request, index, matcher, cached=first.cached))

    def remove(self, answer_id: str) -> None:
        """Forget an answer, running or waiting; unknown ids are ignored."""
        sequence = self._tenants.forget(answer_id)
        if sequence is None:
            return
        sequence.ended = True
        self._leave_seat(sequence)
        if not self._tenants.has(sequence.request.tenant):
            self._turns.leave(sequence.request.tenant)

    def done(self, chunk: Chunk) -> None:
        """Take note that a chunk was computed: its full blocks may be shared from now on."""
        sequence = chunk.sequence
        if sequence.seatings != chunk.seating or sequence.slot < 0:
            return
        full = min(chunk.end, sequence.known) // self._blocks.size
        for index in range(sequence.published, min(full, len(sequence.blocks))):
            self._blocks.publish(sequence.blocks[index], sequence.keys(index + 1, self._blocks.size)[index])
        sequence.published = max(sequence.published, full)

    def take_back(self, chunks: list[Chunk]) -> None:
        """Undo a step that there was no memory for: what was in it waits again, and for a while steps are smaller."""
        for chunk in reversed(chunks):
            chunk.sequence.drawing -= chunk.samples
            self._put_back(chunk.sequence, {})
        self._max_step_tokens = max(self._seats + 1, self._max_step_tokens // 2)
        self._max_step_scores = max(1, self._max_step_scores // 2)
        self._cautious = _CAUTIOUS_STEPS

    def plan(self, now: float) -> Plan:
        """Decide the next step and count its tokens as computed.

        Args:
            now: monotonic seconds, compared with the requests' deadlines.
        """
        expired = [each for each in self._tenants.waiting.values() if each.cached < 0 and each.is_late(now)]
        for sequence in expired:
            self.remove(sequence.id)
        if self._cautious:
            self._cautious -= 1
        else:
            self._max_step_tokens, self._max_step_scores = self._largest
        self._stood_up.clear()
        counts: dict[Sequence, int] = {}
        self._decode(counts)
        self._prefill(counts)
        chunks = [sequence.begin(count) for sequence, count in counts.items()]
        return Plan(sorted(chunks, key=lambda chunk: chunk.count > 1), expired)

    def _decode(self, counts: dict[Sequence, int]) -> None:
        for sequence in self.running:
            if sequence.slot < 0 or sequence.pending != 1:
                continue
            while self._blocks.blocks_for(sequence.computed + 1) > len(sequence.blocks):
                new = self._blocks.allocate(1, after=sequence.blocks[-1])
                if new is not None:
                    sequence.blocks += new
                    continue
                victim = next(reversed(self._tenants.running.values()))
                self._put_back(victim, counts)
                if victim is sequence:
                    break
            if sequence.slot >= 0:
                counts[sequence] = 1
                self._turns.charge(sequence.request.tenant, 1)

    def _prefill(self, counts: dict[Sequence, int]) -> None:
        idle = 0
        for tenant in self._turns:
            served = False
            for sequence in self._work(tenant, counts):
                left = self._max_step_tokens - sum(counts.values())
                before = counts.get(sequence, 0)
                count = min(sequence.pending - before, left, self._turns.credit(tenant))
                if sequence.scores(before + count):
                    count = min(count, self._max_step_scores - sum(len(each.scores(counts[each])) for each in counts))
                if count == 0:
                    continue
                counts[sequence] = before + count
                self._turns.charge(tenant, count)
                served = True
                if left == count:
                    return
                if self._turns.credit(tenant) <= 0:
                    break
            else:
                self._turns.forgo(tenant)
            idle = 0 if served or self._turns.credit(tenant) < 0 else idle + 1
            if idle > 2 * len(self._tenants.names):
                return

    def _work(self, tenant: str, counts: dict[Sequence, int]) -> Iterator[Sequence]:
        """The tenant's prompts that are not yet computed to the end, then what can be let in; while it has credit."""
        for sequence in self._tenants.running_of(tenant):
            if self._turns.credit(tenant) <= 0:
                return
            if sequence.pending > counts.get(sequence, 0):
                yield sequence
        while self._turns.credit(tenant) > 0:
            head = self._tenants.head(tenant)
            if head is None or head.drawing or not self._let_in(head, counts):
                return
            yield head

    def _let_in(self, sequence: Sequence, counts: dict[Sequence, int]) -> bool:
        tenant = sequence.request.tenant
        starved = self._tenants.starved
        # What was put back in this step would only take again what it has just given.
        if sequence in self._stood_up or (starved is not None and starved is not sequence):
            return False
        if not self._seat(sequence):
            victims = self._over_share(sequence)
            if not victims:
                # What its tenant has running will end; with none of that, nobody may go on overtaking it.
                if self._free_slots and not self._tenants.running_of(tenant):
                    self._tenants.starved = sequence
                return False
            while not self._seat(sequence):
                if not victims:
                    return False
                self._put_back(victims.pop(0), counts)
        self._tenants.starved = None
        self._tenants.run(sequence)
        return True

    def _seat(self, sequence: Sequence) -> bool:
        """Give it a slot and blocks for all its known tokens, if there are."""
        if not self._free_slots:
            return False
        size = self._blocks.size
        # At least one token has to be computed, or there would be nothing to draw the next one from.
        shared = self._blocks.find(sequence.keys(sequence.sharable // size, size))
        self._blocks.share(shared)
        needed = self._blocks.blocks_for(sequence.known) - len(shared)
        room = self._blocks.blocks_for(sequence.span - sequence.known)
        # One block for each answer that runs, so that letting one in does not put another back at once.
        own = None
        if needed + len(self._tenants.running) <= self._blocks.free or not self._tenants.running:
            own = self._blocks.allocate(needed, after=shared[-1] if shared else None, room=room)
        if own is None:
            self._blocks.release(shared)
            return False
        sequence.blocks = shared + own
        sequence.published = len(shared)
        sequence.computed = len(shared) * size
        if sequence.cached < 0:
            sequence.cached, sequence.queued = sequence.computed, self._clock() - sequence.arrived
            self._prefix_queries += len(sequence.request.prompt_ids)
            self._prefix_hits += sequence.cached
        sequence.slot = self._free_slots.pop()
        sequence.seatings += 1
        return True

    def _over_share(self, sequence: Sequence) -> list[Sequence]:
        """Who has to give up a seat so that a tenant gets one that is its by right: the last first, if it helps."""
        tenants = self._tenants
        if len(tenants.running_of(sequence.request.tenant)) >= self._share(sequence):
            return []
        over = {tenant: len(tenants.running_of(tenant)) for tenant in tenants.names}
        victims = []
        for other in reversed(tenants.running.values()):
            if over[other.request.tenant] > self._share(other):
                over[other.request.tenant] -= 1
                victims.append(other)
        freed = sum(self._blocks.owners(block) == 1 for victim in victims for block in victim.blocks)
        needed = self._blocks.blocks_for(sequence.known) + len(tenants.running) - len(victims)
        return victims if needed <= self._blocks.free + freed else []

    def _share(self, sequence: Sequence) -> int:
        return self._turns.share(sequence.request.tenant, self._seats)

    def _put_back(self, sequence: Sequence, counts: dict[Sequence, int]) -> None:
        counts.pop(sequence, None)
        self._stood_up.add(sequence)
        self._leave_seat(sequence)
        sequence.computed = 0
        self._tenants.put_back(sequence)

    def _leave_seat(self, sequence: Sequence) -> None:
        if sequence.slot >= 0:
            self._blocks.release(sequence.blocks)
            self._free_slots.append(sequence.slot)
            sequence.blocks, sequence.slot = [], -1
