"""Stands between the service and PostgreSQL, understands where a message ends, and goes wrong on command."""

import asyncio
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

Mode = Literal["pass", "refuse", "swallow", "hold"]

_LENGTH = 4
# The first message of a connection has no type; neither has a request to cancel, which is the only one of its own.
_TYPE = 1


class PostgresProxy:
    """Passes messages on, in both directions, on a port of the loopback. TLS would hide them: use `ssl=disable`.

    Attributes:
        mode: `pass`; `refuse` closes new connections at once; `swallow` takes everything and passes nothing on, as a
            network does that has forgotten the connection; `hold` keeps messages until it passes again.
        was_cut: whether `cut_after` has cut.
    """

    def __init__(self, directory: str) -> None:
        """`directory`: of the server's socket."""
        self._server = f"{directory}/.s.PGSQL.5432"
        self._connections: set[tuple[StreamWriter, StreamWriter]] = set()
        self._left: int | None = None
        self._passing = asyncio.Event()
        self.was_cut = False
        self.turn("pass")

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Its port."""
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]
            self.cut()
            self.turn("pass")

    def turn(self, mode: Mode) -> None:
        """Go on so; what was held is passed on once the mode is `pass`, what was swallowed is lost."""
        self.mode: Mode = mode
        (self._passing.clear if mode == "hold" else self._passing.set)()

    def cut(self) -> None:
        """Cut every connection."""
        for writers in self._connections:
            _abort(*writers)

    def cut_after(self, messages: int) -> None:
        """Pass on so many messages, of all connections and in both directions, and cut the connection of the next."""
        self._left, self.was_cut = messages, False

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self.mode == "refuse":
            _abort(writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._server)
        except OSError:
            _abort(writer)
            return
        writers = writer, server_writer
        self._connections.add(writers)
        try:
            await asyncio.gather(
                self._pump(reader, writers, server_writer, typed=False),
                self._pump(server_reader, writers, writer, typed=True),
            )
        finally:
            self._connections.discard(writers)

    async def _pump(
        self, reader: StreamReader, writers: tuple[StreamWriter, StreamWriter], to: StreamWriter, *, typed: bool
    ) -> None:
        with suppress(OSError, IncompleteReadError):
            while True:
                message = await _message(reader, typed=typed)
                typed = True
                await self._passing.wait()
                if self.mode == "swallow":
                    continue
                if self._left == 0:
                    self._left, self.was_cut = None, True
                    break
                if self._left is not None:
                    self._left -= 1
                to.write(message)
                await to.drain()
        _abort(*writers)


async def _message(reader: StreamReader, *, typed: bool) -> bytes:
    head = await reader.readexactly(_LENGTH + _TYPE * typed)
    return head + await reader.readexactly(int.from_bytes(head[-_LENGTH:]) - _LENGTH)


def _abort(*writers: StreamWriter) -> None:
    for writer in writers:
        writer.transport.abort()


def proxied(url: str, port: int) -> str:
    """The same database by way of a proxy on this port."""
    return url.replace("@/", f"@127.0.0.1:{port}/").partition("?")[0] + "?ssl=disable"
