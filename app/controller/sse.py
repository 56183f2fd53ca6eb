"""Server-sent events: a turn's events on the wire."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.body_writer import BODY_WRITER, BodyWriter
from app.common.errors import AppError, TenantSuspended, Unauthenticated, Unavailable
from app.common.handlers import error_envelope
from database.models import TurnStatus
from services.answer_delta import TextDelta
from services.live_turn import LiveTurn
from services.notice import Notice
from services.turn_end import TurnEnd, TurnEvent
from services.turn_listener import TurnListener

Result = TypeVar("Result")

KEEP_ALIVE_SECONDS = 15.0
# How often is looked whether a listener may still listen. A key that is looked up may be remembered for two seconds
# more, and who is revoked or suspended hears nothing after five.
_CHECK_SECONDS = 2.5
KEEP_ALIVE = b": keep-alive\n\n"
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # nginx holds a proxied answer back until its buffer is full, unless it is told not to.
    (b"x-accel-buffering", b"no"),
)


class EventStream(Response):
    """Streams a turn. A client that leaves is noticed at once, and the turn with it.

    Written on bare ASGI: the framework's own event streams cost five to ten times as much an event.
    """

    def __init__(
        self,
        turn: LiveTurn,
        encode: Callable[[TurnEvent], bytes],
        *,
        first: bytes = b"",
        offset: int = 0,
        check: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Stream a turn.

        Args:
            turn: to listen to.
            encode: makes the bytes of an event, blank line included; of an empty delta, a sign of life.
            first: sent before there is any.
            offset: code points of the text that are left out.
            check: asked now and then whether the listener may still listen; raises Unauthenticated or TenantSuspended
                if not.
        """
        # What the framework's constructor sets, but for the length of a body that is not known.
        self.status_code = 200
        self.background = None
        limits = ((name.encode(), value.encode()) for name, value in limit_headers(turn).items())
        self.raw_headers = [*_HEADERS, *limits]
        self._turn = turn
        self._encode = encode
        self._first = first
        self._offset = offset
        self._check = check
        self._is_check_due = False
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send until the last event, or until the client leaves."""
        scope["state"]["turn_id"] = self._turn.id
        try:
            await self._stream(scope, send, scope["state"]["left"])
        except OSError:
            # The client left while it was written to.
            pass
        finally:
            scope["state"]["left"].forget()
            if self._timer is not None:
                self._timer.cancel()
            self._turn.leave()

    async def _stream(self, scope: Scope, send: Send, left: Notice) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._first:
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
        with self._turn.listen(KEEP_ALIVE_SECONDS, self._offset) as listener:
            left.tell(listener.wake)
            if (writer := scope["state"].get(BODY_WRITER)) is not None:
                listener.taking = self._taking(listener, writer, left)
            self._check_later(listener)
            while True:
                if self._is_check_due and (refusal := await self._refusal(listener)) is not None:
                    await send({"type": "http.response.body", "body": error_event(refusal)})
                    return
                # Looked at with nothing awaited from here to the wait, or nobody would tell of it any more.
                if left.is_set():
                    return
                events = listener.take()
                for event in events:
                    more = not isinstance(event, TurnEnd)
                    if isinstance(event, TurnEnd) and event.error is not None:
                        scope["state"]["is_broken"] = True
                    await send({"type": "http.response.body", "body": self._written(event), "more_body": more})
                    if not more:
                        return
                if not events and not await listener.news():
                    await send({"type": "http.response.body", "body": self._encode(TextDelta("")), "more_body": True})

    def _written(self, event: TurnEvent) -> bytes:
        if isinstance(event, TurnEnd) and event.error is not None and event.status == TurnStatus.RUNNING:
            # No event of the turn: with an id or a number, it would make who listens again miss what comes instead.
            return error_event(event.error)
        return self._encode(event)

    def _taking(self, listener: TurnListener, writer: BodyWriter, left: Notice) -> Callable[[], bool]:
        """Writes what a turn says next, but for what takes a task: to wait for the client, to check, to end."""

        def take() -> bool:
            if not writer.is_ready or self._turn.has_ended or left.is_set() or self._is_check_due:
                return False
            if piece := b"".join(map(self._encode, listener.take())):
                writer.write(piece)
            return True

        return take

    def _check_later(self, listener: TurnListener) -> None:
        """Wake the listener when it is time, since a turn may say nothing for long."""

        def due() -> None:
            self._is_check_due = True
            listener.rouse()

        self._is_check_due = False
        if self._check is not None:
            self._timer = asyncio.get_running_loop().call_later(_CHECK_SECONDS, due)

    async def _refusal(self, listener: TurnListener) -> AppError | None:
        try:
            # A database that is away for a moment is no reason to cut streams.
            with suppress(Unavailable):
                if self._check is not None:
                    await self._check()
        except (Unauthenticated, TenantSuspended) as refusal:
            return refusal
        self._check_later(listener)
        return None


def error_event(error: AppError) -> bytes:
    """An event that tells of this error."""
    return b"data: " + msgspec.json.encode(error_envelope(error).model_dump()) + b"\n\n"


def limit_headers(turn: LiveTurn) -> dict[str, str]:
    """What the answer says of the caller's limits."""
    return {} if turn.allowance is None else turn.allowance.headers()


async def whole(turn: LiveTurn, request: Request) -> TurnEnd:
    """Wait for a turn's end. Raises the error it ended with, or ClientDisconnect if the client left before."""
    request.state.begun()
    request.state.turn_id = turn.id
    # Where an answer that fails finds them.
    request.state.limit_headers = limit_headers(turn)
    try:
        return await unless_left(turn.outcome(), request.state.left)
    finally:
        turn.leave()


async def unless_left(coming: Coroutine[Any, Any, Result], left: Notice) -> Result:
    """Wait for a result. Raises ClientDisconnect if the client leaves before.

    Args:
        coming: makes the result.
        left: said when the client has left; what answers a request finds it in the request's state.
    """
    ending = asyncio.create_task(coming)
    left.tell(ending.cancel)
    try:
        await asyncio.wait({ending})
    finally:
        left.forget()
        if not ending.done():
            ending.cancel()
            await asyncio.wait({ending})
    if ending.cancelled():
        raise ClientDisconnect
    return ending.result()
