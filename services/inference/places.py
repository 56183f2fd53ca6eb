"""The places in the engine's queue: how much may run and wait, and when there will be room again."""

import time
from collections import deque
from collections.abc import Callable

_SHORTEST, _LONGEST = 1.0, 60.0
# Frees that are remembered: enough to measure a rate by, however busy the engine is.
_REMEMBERED = 256
# Multiples of it, whole numbers aside, are spread evenly between 0 and 1, however many are taken.
_GOLDEN = 0.618033988749895


class Places:
    """Bounds what runs and waits together, in requests and in tokens.

    A request alone gets its place however large it is: whether it can ever fit is the engine's to say.

    Args:
        requests: at the most.
        tokens: of prompts and longest answers, at the most.
        clock: monotonic seconds.
    """

    def __init__(self, *, requests: int, tokens: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests = requests
        self._tokens = tokens
        self._clock = clock
        self._taken: dict[str, int] = {}
        self._busy_since = 0.0
        self._freed: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED)
        self._refused = 0

    def take(self, request_id: str, tokens: int) -> float | None:
        """Take a place: None, or in how many seconds to try again.

        Args:
            request_id: of a request that has no place.
            tokens: of its prompt and its longest possible answer.
        """
        requests = len(self._taken) + 1 - self._requests
        excess = sum(self._taken.values()) + tokens - self._tokens if self._taken else 0
        if requests > 0 or excess > 0:
            return self._wait(requests, excess)
        if not self._taken:
            self._busy_since = self._clock()
        self._taken[request_id] = tokens
        return None

    def free(self, request_id: str) -> None:
        """Give a place back."""
        self._freed.append((self._clock(), self._taken.pop(request_id)))

    def _wait(self, requests: int, tokens: int) -> float:
        """Seconds until so much is free, at the rate of the last minute; as long again as nothing was.

        Up to twice that: those that are refused together would come back together, and keep the streams of the others
        waiting while they are refused again.
        """
        now = self._clock()
        begin = max(self._busy_since, now - _LONGEST)
        if len(self._freed) == _REMEMBERED:
            begin = max(begin, self._freed[0][0])
        freed = [size for at, size in self._freed if at >= begin]
        parts = max(requests / max(1, len(freed)), tokens / (sum(freed) or max(1, tokens)))
        later = self._refused * _GOLDEN % 1
        self._refused += 1
        return min(_LONGEST, max(_SHORTEST, (now - begin) * parts) * (1 + later))
