"""Ends the engine's process when a step hangs, by a timer that runs even where no Python does."""

import faulthandler
import time

# How much later than it has to the timer may go off. To set it makes a thread: too dear for every step.
_SLACK = 0.1


class Watchdog:
    """Shows the stacks of all threads on standard error and ends the process if a step takes too long.

    The exit status is 1. A process can have one of these, and one thread may use it.

    Args:
        seconds: the longest step.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._set_at: float | None = None

    def step(self) -> None:
        """A step begins; so the one before it has ended."""
        now = time.monotonic()
        if self._set_at is None or now - self._set_at >= self._seconds * _SLACK:
            faulthandler.dump_traceback_later(self._seconds * (1 + _SLACK), exit=True)
            self._set_at = now

    def rest(self) -> None:
        """There is nothing to do until the next step, however long that is."""
        if self._set_at is not None:
            faulthandler.cancel_dump_traceback_later()
            self._set_at = None
