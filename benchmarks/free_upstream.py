"""A chat completions API that costs next to nothing: `python -m benchmarks.free_upstream PORT`.

Every request gets the same stream of one token, so that what stands before it is all there is to measure.
"""

import asyncio
import sys
from typing import cast

import httptools
import uvloop

_CHUNK = b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"free","choices":[%b]%b}'
_EVENTS = (
    _CHUNK % (b'{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}', b""),
    _CHUNK % (b'{"index":0,"delta":{},"finish_reason":"stop"}', b""),
    _CHUNK % (b"", b',"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}'),
    b"[DONE]",
)
_BODY = b"".join(b"data: %b\n\n" % event for event in _EVENTS)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No subclass of it, but what uvloop gives is one.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(_ANSWER)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
