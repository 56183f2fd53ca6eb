"""Reading a turn while it is said."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from services.answer_delta import AnswerDelta, TextDelta, merged
from services.turn_end import TurnEnd, TurnEvent

# New deltas, and the end if it has come.
New = tuple[Sequence[AnswerDelta], TurnEnd | None]


class TurnListener:
    """One who reads a turn at its own pace: what came while it was away comes in as few pieces as it takes.

    Attributes:
        taking: called when there is news for one who waits; he is not woken if it returns True, for it has taken it.
            Cheaper than a task that is woken for each token. What it raises is raised where he waits.
    """

    def __init__(self, since: Callable[[int], New], idle: float | None, offset: int) -> None:
        """Listen from the first event on.

        Args:
            since: what a turn has said, without the first so many deltas.
            idle: after so many seconds without news the listener is told that there is none.
            offset: code points of the text that are left out.
        """
        self.taking: Callable[[], bool] | None = None
        self._since = since
        self._offset = offset
        self._read = 0
        self._has_ended = False
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bool] | None = None
        self._is_called = False
        self._heard_at = self._loop.time()
        # One timer goes on for all waits: to set one for each token costs as much again.
        self._timer = None if idle is None else self._loop.call_later(idle, self._look, idle)

    def take(self) -> Sequence[TurnEvent]:
        """All that is new; the last event alone is a TurnEnd."""
        new, end = self._since(self._read)
        self._read += len(new)
        events = [*self._uncut(merged(new))] if self._offset else merged(new)
        if end is None or self._has_ended:
            return events
        self._has_ended = True
        return [*events, end]

    async def news(self) -> bool:
        """Wait, when nothing was left to be taken; False if nothing came for as long as it may take."""
        self._waiter = self._loop.create_future()
        return await self._waiter

    def wake(self) -> None:
        """Say that there is something new."""
        if not self._is_called and self._waiter is not None and not self._waiter.done():
            # Not at once: what one step of the engine brings, and what comes close behind it, is taken together.
            self._is_called = True
            self._loop.call_soon(self._call)

    def rouse(self) -> None:
        """Wake who waits though nothing was said: that nothing was is still told when it is time."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    def close(self) -> None:
        """Nothing is waited for any more."""
        self._waiter = None
        if self._timer is not None:
            self._timer.cancel()

    def _call(self) -> None:
        self._is_called = False
        self._heard_at = self._loop.time()
        if self._waiter is None or self._waiter.done():
            return
        try:
            if self.taking is None or not self.taking():
                self._waiter.set_result(True)
        except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
            self._waiter.set_exception(error)

    def _uncut(self, deltas: Sequence[AnswerDelta]) -> Iterator[AnswerDelta]:
        for delta in deltas:
            if self._offset and isinstance(delta, TextDelta):
                rest = delta.text[self._offset :]
                self._offset -= len(delta.text) - len(rest)
                if rest:
                    yield TextDelta(rest, delta.index)
            else:
                yield delta

    def _look(self, idle: float) -> None:
        rest = self._heard_at + idle - self._loop.time()
        if rest <= 0:
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(False)
            rest = idle
        self._timer = self._loop.call_later(rest, self._look, idle)
