"""Bytes as they come from the network, given to the service's own HTTP, without a network."""

import asyncio
import re
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

from app.controller.body_limit import BodyLimit
from app.controller.http_metrics import HttpMetrics
from app.server_config import server_config
from app.settings import Settings

_SETTINGS = Settings(_env_file=None, max_body_bytes=1024)
_LIMITED = BodyLimit(PlainTextResponse("fine"), most=1024, pause=1, seconds=1)
_config = server_config(_LIMITED, _SETTINGS, HttpMetrics(CollectorRegistry()))
_config.lifespan = "off"
_config.load()
_loop = asyncio.new_event_loop()
_ANSWER = re.compile(rb"HTTP/1\.1 (100|200|400|408|413|414|415|431|503) ")


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


def http(data: bytes) -> None:
    """Whole, and byte by byte: what is answered is HTTP, and of a known status."""
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        answered = _loop.run_until_complete(_exchange(pieces))
        assert not answered or _ANSWER.match(answered), answered


async def _exchange(pieces: list[bytes]) -> bytes:
    transport = _Transport()
    state = ServerState()
    protocol: Any = _config.http_protocol_class(config=_config, server_state=state, app_state={}, _loop=_loop)  # type: ignore[call-arg]
    protocol.connection_made(transport)
    for piece in pieces:
        protocol.data_received(piece)
    await asyncio.sleep(0)
    protocol.connection_lost(None)
    while state.tasks:
        await asyncio.sleep(0)
    return transport.written
