"""Whether an engine that is lost again and again is asked at all, and when to come back if not."""

import time
from collections.abc import Callable

_SHORTEST, _LONGEST = 1.0, 60.0
# Lost so often without an answer in between, it is tried with one request before it gets all of them.
_FLAKY = 2
_TRIAL_SECONDS = 2.0
# There for so long, it was not lost again but anew: as its supervisor sees it.
_STEADY_SECONDS = 60.0
# A long answer must not keep everybody else away.
_PROVING_SECONDS = 5.0


class CircuitBreaker:
    """Passes everything while the engine is there, nothing while it is away.

    An engine that came back from its second loss in a row gets one request at a time, until one was answered, or has
    been for some seconds. Requests that begin together or not at all are one: they bear one name here.

    Args:
        clock: monotonic seconds.

    Attributes:
        trial: the name of the one request, while there may be no other.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_there = False
        self._away_since = self._came_at = clock()
        self._last_absence = 0.0
        self._losses = 0
        self.trial: str | None = None
        self._on_trial = 0
        self._tried_at = 0.0

    @property
    def retry_after(self) -> float:
        """Seconds after which it makes sense to try again.

        While the engine is away: what its last absence leaves, then as long again as it has been away. Whoever starts
        it waits twice as long each time, so that this grows as that does.
        """
        if self._is_there:
            return _TRIAL_SECONDS
        away = self._clock() - self._away_since
        return min(_LONGEST, max(_SHORTEST, away, self._last_absence - away))

    def came(self) -> None:
        """The engine can answer."""
        if not self._is_there:
            self._is_there = True
            self._came_at = self._clock()
            self._last_absence = self._came_at - self._away_since

    def lost(self) -> None:
        """The engine cannot answer any more, or still not."""
        if not self._is_there:
            return
        self._is_there = False
        self._end_trial()
        now = self._clock()
        self._losses = 1 if now - self._came_at > _STEADY_SECONDS else self._losses + 1
        # Without an answer in between it was never really back.
        if self._losses == 1:
            self._away_since = now

    def enter(self, name: str, *, trial_speaks: bool = False) -> bool:
        """Whether this request may be sent to the engine; `trial_speaks`: something came of the one on trial."""
        if not self._is_there:
            return False
        if trial_speaks and self._clock() - self._tried_at >= _PROVING_SECONDS:
            self._losses = 0
            self._end_trial()
        if self._losses >= _FLAKY:
            if self.trial is None:
                self.trial, self._tried_at = name, self._clock()
            elif self.trial != name:
                return False
            self._on_trial += 1
        return True

    def leave(self, name: str, *, answered: bool) -> None:
        """A request that was sent has ended, or was given up; `answered`: and the engine was there to the end."""
        if self.trial == name:
            self._on_trial -= 1
            if self._on_trial == 0:
                self._end_trial()
        if answered and self._is_there:
            self._losses = 0

    def _end_trial(self) -> None:
        self.trial, self._on_trial = None, 0
