"""Stands between clients and the service, and goes wrong on command, as networks do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

_MOST = 65_536


class Network(StrEnum):
    """How it is."""

    WELL = "passes all on"
    SWALLOWS = "swallows all and says nothing"
    HOLDS = "holds all back"


class ClientProxy:
    """Passes bytes on, both ways, while `network` is well."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._passing = asyncio.Event()
        self.turn(Network.WELL)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Its URL."""
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self.turn(Network.WELL)
            self.cut()

    def turn(self, network: Network) -> None:
        """Go on so. What was held is passed on when it is well again, what was swallowed never is."""
        self.network = network
        (self._passing.clear if network == Network.HOLDS else self._passing.set)()

    def cut(self) -> int:
        """Cut every connection; how many there were."""
        for writers in self._connections:
            for writer in writers:
                writer.transport.abort()
        return len(self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            service_reader, service_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        writers = writer, service_writer
        self._connections.add(writers)
        try:
            await asyncio.gather(self._pump(reader, service_writer), self._pump(service_reader, writer))
        finally:
            self._connections.discard(writers)

    async def _pump(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(_MOST):
                await self._passing.wait()
                if self.network == Network.WELL:
                    to.write(piece)
                    await to.drain()
        to.close()
