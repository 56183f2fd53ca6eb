"""A turn while it lives: the answers so far, for whoever listens, and how it ended."""

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from msgspec import Struct, field

from app.common.errors import AppError
from services.allowance import Allowance
from services.answer_delta import Answer, AnswerDelta, TextDelta, fold, merged
from services.echo import Echo
from services.notice import Notice
from services.turn_end import TurnEnd, TurnEvent
from services.turn_listener import TurnListener


class LiveTurn(Struct, kw_only=True, eq=False):
    """One running turn. Its owner appends and ends; listeners come, read at their own pace, and leave.

    Attributes:
        conversation_id: None where only numbers are kept.
        created_at: when it was made, aware.
        count: how many answers it has.
        cached_tokens: of the prompt, those that were not computed again, once it is known.
        completion_tokens: tokens so far.
        queue_seconds: how long it waited in the engine, once it is known.
        unheard: set when the turn is to be cancelled: at once when the last listener has left, or as `patience` says.
        patience: for how many seconds it runs on when nobody listens.
        resumable: whether its text is written while it runs, for those who listen elsewhere or later.
        left_at: when the last listener left, in monotonic seconds; before the first one, when it was made.
        stopped: what listeners are told if it was cancelled by request.
        dropped_turns: the conversation's oldest turns that the prompt has no room for.
        charged_at: the time whose minute, day and month limits were charged, once they were.
        allowance: what they leave then.
        echo: the prompt, where it is given back before the answers.
    """

    id: str
    conversation_id: str | None
    created_at: datetime
    prompt_tokens: int
    count: int = 1
    dropped_turns: int = 0
    charged_at: datetime | None = None
    allowance: Allowance | None = None
    echo: Echo | None = None
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token_at: datetime | None = None
    queue_seconds: float = 0.0
    unheard: Notice = field(default_factory=Notice)
    patience: float = 0.0
    resumable: bool = False
    left_at: float = field(default_factory=time.monotonic)
    stopped: AppError | None = None
    _deltas: list[AnswerDelta] = field(default_factory=list)
    _end: TurnEnd | None = None
    _listeners: list[TurnListener] = field(default_factory=list)

    @property
    def answers(self) -> list[Answer]:
        """The answers so far."""
        return fold(self._deltas, self.count)

    @property
    def parts(self) -> Sequence[AnswerDelta]:
        """All that was said so far in as few pieces as it takes, one answer after another."""
        return merged(self._deltas)

    @property
    def text(self) -> str:
        """All that was said so far, for the log; several answers with an empty line between them."""
        return "\n\n".join(answer.written() for answer in self.answers if answer.text or answer.calls)

    def append(self, deltas: Sequence[AnswerDelta]) -> None:
        """Add what is new; nothing happens for none."""
        if deltas:
            self._deltas += deltas
            self._notify()

    def end(self, end: TurnEnd) -> None:
        """Add the last event."""
        self._end = end
        self._notify()

    def since(self, read: int) -> Sequence[AnswerDelta]:
        """All deltas but the first `read`."""
        return self._deltas[read:]

    @property
    def has_ended(self) -> bool:
        """Whether all has been said."""
        return self._end is not None

    def is_unheard(self, patience: float) -> bool:
        """Whether nobody has listened here for so many seconds."""
        return not self._listeners and time.monotonic() - self.left_at >= patience

    def leave(self) -> None:
        """Say that somebody does not listen, or no longer: a turn without patience ends if nobody else does."""
        if not self._listeners:
            self.left_at = time.monotonic()
            if self.patience == 0:
                self.unheard.set()

    def stop(self, why: AppError) -> None:
        """Cancel it; listeners are told why."""
        self.stopped = why
        self.unheard.set()

    @contextmanager
    def listen(self, idle: float | None = None, offset: int = 0) -> Iterator[TurnListener]:
        """Listen from the first event on. A listener that stops before the last one has left.

        Args:
            idle: after so many seconds without news the listener is told that there is none.
            offset: code points of the text that are left out.
        """
        listener = TurnListener(lambda read: (self.since(read), self._end), idle, offset)
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            listener.close()
            self._listeners.remove(listener)
            self.leave()

    async def events(self, idle: float | None = None, offset: int = 0) -> AsyncGenerator[TurnEvent, None]:
        """The events from the first on; an empty delta where there was nothing for `idle` seconds."""
        with self.listen(idle, offset) as listener:
            while True:
                events = listener.take()
                for event in events:
                    yield event
                    if isinstance(event, TurnEnd):
                        return
                if not events and not await listener.news():
                    yield TextDelta("")

    async def outcome(self) -> TurnEnd:
        """The fold of the events: `answers` are whole then. Raises the error of a turn that did not end well."""
        async for event in self.events():
            if isinstance(event, TurnEnd):
                if event.error is not None:
                    raise event.error
                return event
        raise AssertionError("a turn's events end with its end")

    def _notify(self) -> None:
        for listener in self._listeners:
            listener.wake()
