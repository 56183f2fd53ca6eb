"""Stands between a browser and the service, and cuts its event streams."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

PAGE = Path(__file__).parent / "page.html"


class CuttingProxy:
    """Serves the page; passes its event stream on and cuts it after an event, or in the middle of the next one.

    Attributes:
        cuts: how many connections were cut after an event had come through.
        cut: set with each of them.
        statuses: of the service's answers, in order.
        done: the page's text when the browser had stopped to reconnect.
    """

    def __init__(self, service_port: int) -> None:
        self._port = service_port
        self.cuts = 0
        self.cut = asyncio.Event()
        self.statuses: list[int] = []
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Its URL."""
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.decode("latin-1").split(" ", 2)
            if method == "POST":
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                text = (await reader.readexactly(length)).decode()
                writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                self.done.set_result(text)
            elif target.startswith("/chat/stream/"):
                await self._pass_on(head, writer)
            else:
                page = PAGE.read_bytes() if target.startswith("/page") else b""
                kind = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
                writer.write(kind + page)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            # The service is away for a moment, or the browser has left: to the other side that is one more cut.
            pass
        finally:
            writer.close()

    async def _pass_on(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        reader, upstream = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            upstream.write(head.replace(b"keep-alive", b"close"))
            answer = await reader.readuntil(b"\r\n\r\n")
            self.statuses.append(int(answer.split(b" ")[1]))
            writer.write(answer)
            while piece := await reader.read(65_536):
                # Every second time, the next event is begun: nobody may take half of one for a whole.
                if b"data: " in piece:
                    half = b'9\r\ndata: {"t\r\n' if self.cuts % 2 else b""
                    writer.write(piece + half)
                    await writer.drain()
                    self.cuts += 1
                    self.cut.set()
                    return
                writer.write(piece)
                await writer.drain()
        finally:
            upstream.close()
