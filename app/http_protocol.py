"""HTTP/1.1, within bounds; also with clients that offer another protocol besides."""

import asyncio
import logging
import socket
from enum import Enum, auto
from typing import Any, ClassVar, Self

import httptools
from structlog.contextvars import bind_contextvars, clear_contextvars
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.body_writer import BODY_WRITER, BodyWriter
from app.common.errors import (
    AppError,
    BodyTooLarge,
    HeadersTooLarge,
    InvalidRequest,
    RequestTimeout,
    TooManyConnections,
    Unavailable,
    UrlTooLong,
)
from app.common.handlers import error_response
from app.connection_bounds import ConnectionBounds
from app.controller.http_metrics import HttpMetrics
from app.controller.request_id import HEADER
from app.request_head import check_head
from app.until_closed import until_closed
from database.identifier import new_id
from services.notice import Notice

log = logging.getLogger(__name__)

_OFFER = {b"upgrade", b"http2-settings"}


class _Part(Enum):
    """What of a request is read next."""

    FIRST_BYTE = auto()
    HEAD = auto()
    BODY = auto()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's, which knows no bounds on what comes before a body, and would lose the body of some requests.

    What is refused here was not read as far as a route; it is answered in the same form.

    The JDK's client offers HTTP/2 with each request that begins a connection. A server declines by answering as if it
    had not been offered: the request is read once more, without the offer.
    """

    bounds: ClassVar[ConnectionBounds]
    metrics: ClassVar[HttpMetrics]

    @classmethod
    def within(cls, bounds: ConnectionBounds, metrics: HttpMetrics) -> type[Self]:
        """The protocol with these bounds, and what counts those who break them."""
        return type(cls.__name__, (cls,), {"bounds": bounds, "metrics": metrics})

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._part = _Part.FIRST_BYTE
        self._answering: RequestResponseCycle | None = None
        self._is_refused = False
        self._late: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        # Bytes of the message, of its headers, and of those that the parser keeps to itself.
        self._received = self._head_size = self._unheard = 0
        self._heard = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        _notice_dead_peers(transport, self.bounds.unread_seconds)
        if len(self.connections) > self.bounds.connections:
            self._refuse(TooManyConnections("Too many clients are connected.", retry_after=1))
            transport.close()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        super().connection_lost(exc)
        self._is_refused = True
        self._tell_of_leaving()
        for timer in (self._late, self._unread):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        while data:
            data = self._read(data)
        self._watch()

    def on_message_begin(self) -> None:
        """Begin to read a request."""
        super().on_message_begin()
        self._part, self._heard = _Part.HEAD, True
        self._received = self._head_size = 0

    def on_url(self, url: bytes) -> None:
        """Keep this piece of it."""
        super().on_url(url)
        self._heard = True
        if len(self.url) > self.bounds.url:
            raise UrlTooLong(f"Path and query are longer than {self.bounds.url} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer, which could pass for one that a proxy has checked, only counts."""
        self._heard = True
        self._head_size += len(name) + len(value)
        if self._head_size > self.bounds.head:
            raise self._too_large()
        if self._part is _Part.HEAD:
            super().on_header(name, value)
            if len(self.headers) > self.bounds.headers:
                raise HeadersTooLarge(f"There are more than {self.bounds.headers} headers.")

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is read once more."""
        if self.parser.should_upgrade():
            return
        check_head(self.parser.get_http_version(), self.headers)
        if len(self.pipeline) >= self.bounds.waiting:
            raise Unavailable("Too many requests wait on this connection.", retry_after=1)
        self._part, self._heard = _Part.BODY, True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on this piece of it."""
        self._heard = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the body is whole, unless it has not begun."""
        if not self.parser.should_upgrade():
            self._part, self._heard = _Part.FIRST_BYTE, True
            super().on_message_complete()
            if self._answering is self.cycle:
                # A large body stops the reading, and who has read it does not ask for more: nobody would hear that the
                # client leaves.
                self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """Wait for the next request; for the rest of this one, which nobody reads, not for long."""
        super().on_response_complete()
        if self._part is _Part.BODY:
            self._watch()

    def pause_writing(self) -> None:
        """Wait for the client to read, as long as it reads at all."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _read(self, data: bytes) -> bytes:
        """Read this; what is left has to be read once more."""
        self._heard = False
        self._received += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            # The parser takes a tunnel for an upgrade, too.
            if self.parser.get_method() != b"CONNECT":
                again = self._head() + data[offered.args[0] :]
                # A new one: this one may be at its end, if the head says that the connection is to be closed.
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                return again
            self._refuse(InvalidRequest("This is no proxy."))
        except httptools.HttpParserError as error:
            ours = error.__context__
            self._refuse(ours if isinstance(ours, AppError) else InvalidRequest("This is not HTTP/1.1."))
        else:
            self._unheard = 0 if self._heard else self._unheard + len(data)
            if self._unheard > self.bounds.head:
                self._refuse(self._too_large())
            elif self._received > self.bounds.received:
                self._refuse(BodyTooLarge("The request is larger than the service reads."))
        return b""

    def _too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"The headers are larger than {self.bounds.head} bytes.")

    def _head(self) -> bytes:
        """The head that was just read, without the offer."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in _OFFER)  # noqa: PLW2901
            if name not in _OFFER:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        cycle.scope["state"] |= {BODY_WRITER: BodyWriter(cycle), "left": Notice()}
        if cycle.scope["http_version"] == "1.0":
            app = until_closed(app, cycle)
        super()._start_asgi_task(cycle, app)

    def _is_answering(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    def _tell_of_leaving(self) -> None:
        """Tell who answers, which uvicorn forgets if the client has sent another request meanwhile."""
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()
            self._answering.scope["state"]["left"].set()

    def _watch(self) -> None:
        """Time what has to come next, if nothing else is under way. A timer that runs already goes on."""
        if self._is_refused or self._part is _Part.BODY:
            seconds = self.bounds.discard_seconds if self._is_refused or not self._is_answering() else None
        else:
            seconds = None if self._part is _Part.FIRST_BYTE and self._is_answering() else self.bounds.head_seconds
        if seconds is None and self._late is not None:
            self._late.cancel()
            self._late = None
        elif seconds is not None and self._late is None:
            self._late = self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        self._late = None
        if self._is_refused or self._part is not _Part.HEAD:
            self.transport.close()
        elif self._is_answering():
            # Another request; reading may be what waits for its answer.
            self._watch()
        else:
            self._refuse(RequestTimeout(f"The head did not arrive within {self.bounds.head_seconds:g} s."))

    def _refuse(self, error: AppError) -> None:
        """Answer with this and read no more, but let what is on its way come, or the answer would be lost with it."""
        self._is_refused = True
        if self._late is not None:
            self._late.cancel()
            self._late = None
        request_id = new_id()
        # What is here otherwise belongs to an earlier request of the connection.
        clear_contextvars()
        bind_contextvars(request_id=request_id)
        log.info("refused a request of %s: %s", self.client[0] if self.client else "nobody", error.code)
        if self._answering is not None and not self._answering.response_complete:
            begun = self._answering.response_started or self._answering is not self.cycle
            self._tell_of_leaving()
        else:
            # What was answered already is only being read to its end.
            begun = self._part is _Part.BODY
        if begun:
            self.transport.abort()
            return
        self.metrics.refused(error)
        response = error_response(error)
        headers = [*self.server_state.default_headers, *response.raw_headers]
        headers += [(HEADER.encode(), request_id.encode()), (b"connection", b"close")]
        lines = [b"HTTP/1.1 %d " % error.status, *(b"%b: %b" % header for header in headers), b"", b""]
        self.transport.write(b"\r\n".join(lines) + bytes(response.body))
        self.flow.resume_reading()
        self.transport.write_eof()
        self._watch()

    def _wait_for_reader(self) -> None:
        left = self.transport.get_write_buffer_size()

        def look_again() -> None:
            if self.transport.get_write_buffer_size() < left:
                self._wait_for_reader()
            else:
                self.transport.abort()

        self._unread = self.loop.call_later(self.bounds.unread_seconds, look_again)


def _notice_dead_peers(transport: asyncio.Transport, seconds: float) -> None:
    """Let the kernel end a connection whose other end is gone without a word; by default that takes it hours."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(seconds)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000)))
