"""An answer that is kept while it is given, so that several callers can have it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What comes before an answer's body: HTTP status, and headers as names and values."""

    status: int
    headers: list[tuple[str, str]]


@dataclass(slots=True, eq=False)
class Recording:
    """One answer: a head, a body in pieces, an end. Or an error, before any of that or in the middle.

    Attributes:
        fingerprint: of the request that is answered.
        key_id: the API key that it is made with: whoever came first.
        turn_id: the turn that the answer is about, once there is one; the first of them.
        turns: how many the answer is about, which began together.
        is_broken: whether the answer says that it failed: then nobody wants it again.
        is_replayed: whether it was made for an earlier request.
    """

    fingerprint: str
    key_id: str
    turn_id: str | None = None
    turns: int = 1
    is_broken: bool = False
    is_replayed: bool = False
    _head: AnswerHead | None = None
    _pieces: list[bytes] = field(default_factory=list)
    _error: Exception | None = None
    _is_whole: bool = False
    _left_at: float = field(default_factory=time.monotonic)
    _listeners: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def whole_body(self) -> bytes:
        """All of the body so far."""
        return b"".join(self._pieces)

    @property
    def known_head(self) -> AnswerHead | None:
        """The head, if there is one yet."""
        return self._head

    @property
    def is_over(self) -> bool:
        """Whether there is no more to come."""
        return self._is_whole

    def is_unheard(self, seconds: float) -> bool:
        """Whether nobody has waited for it here for so long."""
        return self._listeners == 0 and time.monotonic() - self._left_at >= seconds

    def begin(self, head: AnswerHead) -> None:
        """What comes first."""
        self._head = head
        self._tell()

    def add(self, piece: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(piece)
        self._tell()

    def end(self, error: Exception | None = None) -> None:
        """There is no more, of an error or because it is whole."""
        self._error = error
        self._is_whole = True
        self._tell()

    async def head(self) -> AnswerHead:
        """Wait for the head. Raises the error that came instead."""
        with self._heard():
            while self._head is None:
                if self._error is not None:
                    raise self._error
                await self._news.wait()
            return self._head

    async def over(self) -> None:
        """Wait for the end, whatever it is."""
        with self._heard():
            while not self._is_whole:
                await self._news.wait()

    async def body(self) -> AsyncGenerator[bytes, None]:
        """All pieces; those that came while a slow listener was away as one. Raises an error that came between."""
        read = 0
        with self._heard():
            while True:
                if read < len(self._pieces):
                    new = b"".join(self._pieces[read:])
                    read = len(self._pieces)
                    yield new
                elif self._error is not None:
                    raise self._error
                elif self._is_whole:
                    return
                else:
                    await self._news.wait()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    @contextmanager
    def _heard(self) -> Iterator[None]:
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1
            self._left_at = time.monotonic()
