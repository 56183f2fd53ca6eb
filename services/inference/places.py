"""The places in the engine's queue: who may hold how many, and when there will be room again."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_SHORTEST, _LONGEST = 1.0, 60.0
# Frees that are remembered: enough to measure a rate by, however busy the engine is.
_REMEMBERED = 256
# Multiples of it, whole numbers aside, are spread evenly between 0 and 1, however many are taken.
_GOLDEN = 0.618033988749895
# This part of the places, rounded down, is for tenants that hold none.
_KEPT_PART = 8


@dataclass(frozen=True, slots=True)
class NoPlace:
    """Why there is none: `wait` seconds to try again after; `by_ceiling`: the tenant's own, not the queue's."""

    wait: float
    by_ceiling: bool


@dataclass(slots=True)
class _Held:
    """What one tenant holds, or all together, and what was given back lately.

    Attributes:
        since: when the first of the places was taken that have been held without a break.
        freed: when, and of how many tokens.
    """

    since: float
    requests: int = 0
    tokens: int = 0
    freed: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def take(self, now: float, tokens: int) -> None:
        if not self.requests:
            self.since = now
        self.requests += 1
        self.tokens += tokens

    def give_back(self, now: float, tokens: int) -> None:
        self.requests -= 1
        self.tokens -= tokens
        self.freed.append((now, tokens))

    def wait(self, now: float, requests: int, tokens: int) -> float:
        """Seconds until so much is free, at the rate of the last minute; as long again as nothing was."""
        begin = max(self.since, now - _LONGEST)
        if len(self.freed) == _REMEMBERED:
            begin = max(begin, self.freed[0][0])
        freed = [size for at, size in self.freed if at >= begin]
        return (now - begin) * max(requests / max(1, len(freed)), tokens / (sum(freed) or max(1, tokens)))


class Places:
    """Bounds what runs and waits together, in requests and in tokens, and what of it one tenant holds.

    A tenant that holds a place cannot take the last eighth of either, so that no tenant keeps all others out. A request
    alone gets its place however large it is: whether it can ever fit is the engine's to say.

    Args:
        requests: at the most. Of fewer than eight, nothing is kept for anybody.
        tokens: of prompts and longest answers, at the most.
        clock: monotonic seconds.
    """

    def __init__(self, *, requests: int, tokens: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests = requests
        self._tokens = tokens
        self._kept_requests = requests // _KEPT_PART
        self._kept_tokens = tokens // _KEPT_PART if self._kept_requests else 0
        self._clock = clock
        self._taken: dict[str, tuple[str, int]] = {}
        self._all = _Held(clock())
        self._tenants: dict[str, _Held] = {}
        self._refused = 0

    @property
    def most(self) -> tuple[int, int]:
        """Places, and tokens in several of them, that one tenant can hold."""
        return self._requests - self._kept_requests, self._tokens - self._kept_tokens

    def take(self, request_id: str, tenant: str, tokens: int, ceiling: int | None = None) -> NoPlace | None:
        """Take a place: None, or why there is none.

        Args:
            request_id: of a request that has no place.
            tenant: whose it is.
            tokens: of its prompt and its longest possible answer.
            ceiling: places that the tenant may hold at the most; None for what the queue allows.
        """
        now = self._clock()
        own = self._tenants.get(tenant)
        if own is not None and ceiling is not None and own.requests >= ceiling:
            return NoPlace(self._spread(own.wait(now, own.requests + 1 - ceiling, 0)), by_ceiling=True)
        requests = self._all.requests + 1 - self._requests
        excess = self._all.tokens + tokens - self._tokens if self._taken else 0
        if own is not None:
            requests, excess = requests + self._kept_requests, excess + self._kept_tokens
        if requests > 0 or excess > 0:
            return NoPlace(self._spread(self._all.wait(now, requests, excess)), by_ceiling=False)
        own = self._tenants.setdefault(tenant, _Held(now))
        self._taken[request_id] = tenant, tokens
        for held in (self._all, own):
            held.take(now, tokens)
        return None

    def free(self, request_id: str) -> None:
        """Give a place back."""
        tenant, tokens = self._taken.pop(request_id)
        own, now = self._tenants[tenant], self._clock()
        for held in (self._all, own):
            held.give_back(now, tokens)
        if not own.requests:
            del self._tenants[tenant]

    def _spread(self, seconds: float) -> float:
        """Within bounds, and up to twice as long.

        Those that are refused together would come back together, and keep the streams of the others waiting while they
        are refused again.
        """
        later = self._refused * _GOLDEN % 1
        self._refused += 1
        return min(_LONGEST, max(_SHORTEST, seconds) * (1 + later))
