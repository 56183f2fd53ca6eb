"""A tenant that sends a crowd does not make another one wait behind it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.settings import Settings
from services.inference.engine import GenerationRequest
from services.inference.native.scheduler import Plan
from tests.service import Service
from tests.tiny_text_model import NAME, running_tiny_model

_CROWD = 500
_AT_ONCE = 4


def _body(max_tokens: int) -> dict[str, Any]:
    return {"model": NAME, "prompt": "the model", "max_tokens": max_tokens, "ignore_eos": True, "stream": True}


class Crowd:
    """Streamed requests of one tenant, each on a connection of its own; what is refused knocks again when told to."""

    def __init__(self, service: Service) -> None:
        self.begun = 0
        self.refused = 0
        self._address = urlsplit(service.url)
        content = json.dumps(_body(200)).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: {self._address.netloc}\r\nContent-Type: application/json\r\n"
            f"Authorization: {service.ours.headers['authorization']}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self._request = head.encode() + content
        self._connections: list[tuple[asyncio.StreamWriter, asyncio.Task[None]]] = []

    @asynccontextmanager
    async def come(self) -> AsyncIterator[None]:
        for _ in range(_CROWD):
            reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
            writer.write(self._request)
            self._connections.append((writer, asyncio.create_task(self._listen(reader, writer))))
        try:
            yield
        finally:
            await self._leave()

    async def _leave(self) -> None:
        for writer, listening in self._connections:
            listening.cancel()
            writer.close()
        await asyncio.gather(*(listening for _, listening in self._connections), return_exceptions=True)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not (head := await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200"):
            assert head.startswith(b"HTTP/1.1 503"), head
            self.refused += 1
            await reader.readexactly(_number(head, "content-length"))
            await asyncio.sleep(_number(head, "retry-after-ms") / 1000)
            writer.write(self._request)
        await reader.readuntil(b"data: ")
        self.begun += 1


class Order:
    """In which order requests came to the scheduler and were given a seat, as its own thread sees it."""

    def __init__(self, service: Service, patch: pytest.MonkeyPatch) -> None:
        core: Any = service.core
        scheduler = core._scheduler
        # By request, how many had been seated before.
        self._came: dict[str, int] = {}
        self._seated: dict[str, int] = {}
        self._tenants: dict[str, str] = {}
        plain_add, plain_plan = scheduler.add, scheduler.plan

        def add(request: GenerationRequest, *arguments: Any) -> None:
            self._came[request.id] = len(self._seated)
            self._tenants[request.id] = request.tenant
            plain_add(request, *arguments)

        def plan(now: float) -> Plan:
            planned: Plan = plain_plan(now)
            for sequence in scheduler.running:
                self._seated.setdefault(sequence.request.id, len(self._seated))
            return planned

        patch.setattr(scheduler, "add", add)
        patch.setattr(scheduler, "plan", plan)

    def seated_first(self, tenant_id: str) -> list[int]:
        """For each request of this tenant: how many others were seated between its coming and its own seat."""
        return [
            seat - self._came[request] for request, seat in self._seated.items() if self._tenants[request] == tenant_id
        ]


async def _ask_once(service: Service) -> None:
    """A single request of the other tenant, until its first token."""
    async with service.theirs.stream("POST", "/v1/completions", json=_body(1)) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                break


def _number(head: bytes, name: str) -> int:
    found = re.search(rf"{name}: (\d+)", head.decode(), re.IGNORECASE)
    assert found is not None, head
    return int(found[1])


def _waiting(service: Service) -> int:
    core: Any = service.core
    return sum(len(queue) for queue in list(core._scheduler._tenants._queues.values()))


async def test_a_single_request_starts_within_a_round_while_another_tenant_has_hundreds_waiting(
    migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_tiny_model(tmp_path, migrated_sqlite, max_queued=2 * _CROWD) as (service, _):
        crowd, order = Crowd(service), Order(service, monkeypatch)
        async with crowd.come():
            while crowd.begun < _AT_ONCE or _waiting(service) + crowd.begun < _CROWD:
                await asyncio.sleep(0.05)
            await _ask_once(service)
            assert _waiting(service) > 0
        (first,) = order.seated_first(service.their_id)
        assert first <= _AT_ONCE


async def test_a_single_request_gets_a_place_and_starts_within_a_round_while_a_crowd_takes_all_it_can(
    migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    max_queued = Settings.model_fields["max_queued"].default
    async with running_tiny_model(tmp_path, migrated_sqlite, max_queued=max_queued) as (service, _):
        crowd, order = Crowd(service), Order(service, monkeypatch)
        async with crowd.come():
            # All are in the queue or have been sent away, and those come again and again.
            most = (places := _AT_ONCE + max_queued) - places // 8
            while crowd.begun < _AT_ONCE or crowd.refused < 2 * _CROWD:
                await asyncio.sleep(0.05)
            for _ in range(5):
                assert _waiting(service) > most // 2
                await _ask_once(service)
        firsts = order.seated_first(service.their_id)
        assert len(firsts) == 5
        assert max(firsts) <= _AT_ONCE, firsts
