"""A connection of HTTP read line by line: an HTTP library's clients would need more of the machine than the service."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_LARGEST_LINE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer; names of headers in lower case."""

    status: int
    headers: dict[str, str]


class WireClient:
    """One kept connection, for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        self._reader = reader
        self._writer = writer
        self._key = key

    @classmethod
    async def connect(cls, url: str, key: str, *, receives: int | None = None) -> "WireClient":
        """Connect; `receives`: bytes that the kernel takes for it while nobody reads, about."""
        address = urlsplit(url)
        connection = socket.socket()
        connection.settimeout(0)
        if receives is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
            # Short segments: the sender's kernel keeps less for a connection that has them.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        await asyncio.get_running_loop().sock_connect(connection, (address.hostname, address.port))
        limit = _LARGEST_LINE if receives is None else receives
        return cls(*await asyncio.open_connection(sock=connection, limit=limit), key)

    async def post(self, path: str, **body: Any) -> Head:
        """Send a request; the head of its answer. Raises ConnectionError when the service hangs up."""
        text = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: service\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        )
        self._writer.write(head.encode() + text)
        status = int((await self._line()).split(b" ", 2)[1])
        headers = {}
        while line := (await self._line()).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return Head(status, headers)

    async def events(self) -> AsyncIterator[bytes]:
        """The JSON of a stream's events, until its end."""
        while (line := await self._line()) != b"0\r\n":
            if line.startswith(b"data: "):
                yield line[6:]
        await self._line()

    async def body(self, head: Head) -> bytes:
        """Of an answer that says how long it is."""
        return await self._reader.readexactly(int(head.headers["content-length"]))

    def close(self) -> None:
        """Hang up."""
        self._writer.transport.abort()

    async def _line(self) -> bytes:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the service has hung up")
        return line
