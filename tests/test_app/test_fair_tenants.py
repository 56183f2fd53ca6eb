"""A tenant that sends a crowd does not make another one wait behind it."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.service import Service
from tests.tiny_text_model import NAME, running_tiny_model

_CROWD = 500
_AT_ONCE = 4


def _body(max_tokens: int) -> dict[str, Any]:
    return {"model": NAME, "prompt": "the model", "max_tokens": max_tokens, "ignore_eos": True, "stream": True}


class Crowd:
    """Streamed requests of one tenant, each on a connection of its own."""

    def __init__(self, service: Service) -> None:
        self.begun = 0
        self._address = urlsplit(service.url)
        content = json.dumps(_body(200)).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: {self._address.netloc}\r\nContent-Type: application/json\r\n"
            f"Authorization: {service.ours.headers['authorization']}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self._request = head.encode() + content
        self._connections: list[tuple[asyncio.StreamWriter, asyncio.Task[None]]] = []

    async def come(self) -> None:
        for _ in range(_CROWD):
            reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
            writer.write(self._request)
            self._connections.append((writer, asyncio.create_task(self._listen(reader))))

    async def leave(self) -> None:
        for writer, listening in self._connections:
            listening.cancel()
            writer.close()
        await asyncio.gather(*(listening for _, listening in self._connections), return_exceptions=True)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readuntil(b"data: ")
        self.begun += 1


def _waiting(service: Service) -> int:
    core: Any = service.engine_server._core
    return sum(len(queue) for queue in list(core._scheduler._tenants._queues.values()))


async def test_a_single_request_starts_within_a_round_while_another_tenant_has_hundreds_waiting(
    migrated_sqlite: Path, tmp_path: Path
) -> None:
    async with running_tiny_model(tmp_path, migrated_sqlite, max_queued=2 * _CROWD) as (service, _):
        crowd = Crowd(service)
        await crowd.come()
        while crowd.begun < _AT_ONCE or _waiting(service) + crowd.begun < _CROWD:
            await asyncio.sleep(0.05)
        assert _waiting(service) > 300
        before = crowd.begun
        async with service.theirs.stream("POST", "/v1/completions", json=_body(1)) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    break
        assert crowd.begun - before <= 2 * _AT_ONCE
        assert _waiting(service) > 300
        await crowd.leave()
