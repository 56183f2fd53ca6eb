"""The service over HTTP, or what has the same API: streamed requests on kept connections.

A protocol on bare asyncio with httptools, not an HTTP library: see `benchmarks/RESULTS.md` for what each costs a token.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec

from benchmarks.load import Answer, Ask, Question

PATH = "/chat/new/message/"
_COMPLETIONS = "/v1/chat/completions"
_LONGEST_ERROR = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSide:
    """A running service.

    Attributes:
        url: of the service, with its path prefix if it has one.
        key: an API key.
        timeout: seconds for a whole answer.
        model: asks this one at `/v1/chat/completions`; None asks at `/chat/new/message/`.
    """

    url: str
    key: str
    timeout: float
    model: str | None = None

    @asynccontextmanager
    async def streams(self, count: int) -> AsyncIterator[list[Ask]]:
        """A connection for each stream."""
        connections = [_Connection(self) for _ in range(count)]
        try:
            for connection in connections:
                await connection.open()
            yield [connection.ask for connection in connections]
        finally:
            for connection in connections:
                connection.close()


class EventReader:
    """Reads the response to one question, as httptools calls it; an event's time is when its last byte was read."""

    def __init__(self) -> None:
        self.answer = Answer(started=time.monotonic())
        self.done = asyncio.get_running_loop().create_future()
        self.parser = httptools.HttpResponseParser(self)
        self._unread = b""
        self._last = b""

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        now = time.monotonic()
        *events, self._unread = (self._unread + body).split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                self.answer.arrivals.append(now)
                self._last = event

    def on_message_complete(self) -> None:
        """The response is whole, which does not say that the answer is."""
        status = self.parser.get_status_code()
        if status == 200:
            self._read_last_event()
        else:
            self.answer.error = f"{status} {_error_text(self._unread)}"
        self._finish()

    def fail(self, error: str) -> None:
        """Nothing more will come."""
        if not self.done.done():
            self.answer.error = error
            self._finish()

    def _read_last_event(self) -> None:
        if self.answer.arrivals:
            # The last event is no piece of the answer.
            self.answer.arrivals.pop()
        last = self._last.removeprefix(b"data: ")
        event = _json_object(last)
        if "error" in event:
            self.answer.error = _error_text(last)
        elif not event.get("finish_reason"):
            self.answer.error = "the stream ended without a finish_reason"
        else:
            usage = event["usage"]
            self.answer.prompt_tokens = usage["prompt_tokens"]
            self.answer.cached_tokens = usage["cached_tokens"]
            self.answer.completion_tokens = usage["completion_tokens"]

    def _finish(self) -> None:
        self.answer.ended = time.monotonic()
        if not self.done.done():
            self.done.set_result(None)


class _ChunkReader(EventReader):
    """Of `/v1/chat/completions`, whose last event is [DONE]; how many tokens there were is not looked at."""

    def _read_last_event(self) -> None:
        if self._last != b"data: [DONE]":
            self.answer.error = "the stream ended without [DONE]"


class _Connection(asyncio.Protocol):
    """One connection, for one question after the other; opened again when the service has closed it."""

    def __init__(self, side: HttpSide) -> None:
        self._side = side
        self._address = urlsplit(side.url)
        self._transport: asyncio.WriteTransport | None = None
        self._reader: EventReader | None = None

    async def open(self) -> asyncio.WriteTransport:
        secure = self._address.scheme == "https"
        port = self._address.port or (443 if secure else 80)
        loop = asyncio.get_running_loop()
        host = self._address.hostname or ""
        self._transport, _ = await loop.create_connection(lambda: self, host, port, ssl=secure or None)
        return self._transport

    async def ask(self, question: Question) -> Answer:
        message = self._message(question)
        try:
            transport = self._transport or await self.open()
        except OSError as error:
            at = time.monotonic()
            return Answer(started=at, ended=at, error=f"no connection: {error}")
        self._reader = EventReader() if self._side.model is None else _ChunkReader()
        transport.write(message)
        try:
            async with asyncio.timeout(self._side.timeout):
                await self._reader.done
        except TimeoutError:
            self._reader.fail(f"no end within {self._side.timeout:g} s")
            self.close()
        return self._reader.answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._reader is None or self._reader.done.done():
            return
        try:
            self._reader.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._reader.fail(f"not HTTP: {error}")
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._reader is not None:
            self._reader.fail("the connection was lost before the end" + (f": {error}" if error else ""))

    def _message(self, question: Question) -> bytes:
        model = self._side.model
        asked: dict[str, Any] = {"max_tokens": question.max_tokens, "temperature": question.temperature, "stream": True}
        if model is None:
            asked["prompt"] = question.prompt
        else:
            asked |= {"model": model, "messages": [{"role": "user", "content": question.prompt}]}
        body = msgspec.json.encode(asked)
        path = self._address.path.rstrip("/") + (PATH if model is None else _COMPLETIONS)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._address.netloc}\r\n"
            f"Authorization: Bearer {self._side.key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _error_text(text: bytes) -> str:
    error = _json_object(text).get("error")
    if isinstance(error, dict):
        return f"{error.get('code')}: {error.get('message')}"
    return text[:_LONGEST_ERROR].decode("utf-8", "replace")
