"""Answers to clients that know no chunks."""

import asyncio
import socket
import struct

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def until_closed(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """Let an answer without a length end with its connection: the server would send chunks to HTTP/1.0, too.

    Args:
        app: answers.
        cycle: the server's of this request, after which it closes the connection.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        is_bounded = True

        async def unchunked(message: Message) -> None:
            nonlocal is_bounded
            if message["type"] == "http.response.start":
                is_bounded = any(name == b"content-length" for name, _ in message["headers"])
                if not is_bounded:
                    cycle.chunked_encoding = False
            elif not is_bounded:
                # The server compares it with the length that would have been announced.
                cycle.expected_content_length += len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receive, unchunked)
        finally:
            if not is_bounded and not cycle.response_complete:
                _cut(cycle.transport)

    return answer


def _cut(transport: asyncio.Transport) -> None:
    """End a connection so that the other side hears of it: closed in order, it would end a whole answer."""
    if (connection := transport.get_extra_info("socket")) is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
