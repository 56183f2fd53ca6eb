"""While a database is copied, clients see honest refusals and their history; afterwards nothing is lost or doubled."""

import asyncio
import json
import os
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.settings import Settings
from database.engine import create_engine
from database.models import TurnStatus
from database.read_only import allow_writes, is_read_only, refuse_turns, refuse_writes
from services.principal import TENANT_SCOPES, Principal
from tests.conftest import as_owner
from tests.rows import a_lease, a_turn, store
from tests.service import NEW_MESSAGE, SECRET, Service, events_of, running_app, running_service, script, text_of
from tests.whole_database import unbound_connection

HISTORY = "/chat/get/messages/"


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(database_url, tmp_path, lease_seconds=3600) as service:
        yield service


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(as_owner(database_url))
    yield engine
    await engine.dispose()


def assert_read_only(answer: Any) -> None:
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "read_only"
    assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_turns_are_refused_and_history_is_read_until_it_is_released(service: Service, owner: AsyncEngine) -> None:
    first = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("before")})).json()
    await refuse_turns(owner)
    await refuse_writes(owner)
    assert_read_only(await service.ours.post(NEW_MESSAGE, json={"prompt": script("during")}))
    assert_read_only(await service.ours.post(NEW_MESSAGE, json={"prompt": script("during"), "stream": True}))
    again = {"prompt": script("during"), "conversation_id": first["conversation_id"]}
    assert_read_only(await service.ours.post(NEW_MESSAGE, json=again))
    assert_read_only(await service.ours.delete(f"/chat/messages/{first['message_id']}"))
    assert_read_only(await service.admin.post("/admin/v1/tenants", json={"name": "new"}))
    # A key that has not been used yet: that it is used now cannot be noted.
    (message,) = (await service.ours.get(HISTORY)).json()["messages"]
    assert message["message_id"] == first["message_id"]
    assert (await service.theirs.get(HISTORY)).json()["messages"] == []
    await allow_writes(owner)
    assert not await is_read_only(owner)
    answer = await service.ours.post(NEW_MESSAGE, json=again)
    assert (answer.status_code, answer.json()["response"]) == (200, "during")


async def test_turns_that_run_end_as_ever_while_new_ones_are_refused(service: Service, owner: AsyncEngine) -> None:
    prompt = script("a long answer", rate=20)
    async with service.ours.stream("POST", NEW_MESSAGE, json={"prompt": prompt, "stream": True}) as response:
        await refuse_turns(owner)
        assert_read_only(await service.theirs.post(NEW_MESSAGE, json={"prompt": script("no")}))
        events = await events_of(response)
    assert (text_of(events), events[-1]["finish_reason"]) == ("a long answer", "stop")


async def test_only_the_tenant_that_is_copied_is_refused(service: Service, owner: AsyncEngine) -> None:
    await refuse_turns(owner, service.our_id)
    await refuse_writes(owner, service.our_id)
    assert_read_only(await service.ours.post(NEW_MESSAGE, json={"prompt": script("no")}))
    assert (await service.theirs.post(NEW_MESSAGE, json={"prompt": script("yes")})).status_code == 200
    await refuse_writes(owner, service.their_id)
    await allow_writes(owner, service.our_id)
    assert (await service.ours.post(NEW_MESSAGE, json={"prompt": script("yes")})).status_code == 200
    assert_read_only(await service.theirs.post(NEW_MESSAGE, json={"prompt": script("no")}))


async def test_a_service_starts_on_a_read_only_database_with_turns_of_a_dead_process(
    service: Service, owner: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    principal = Principal(tenant_id=service.our_id, key_id=await _key_of(service), scopes=TENANT_SCOPES)
    turn = a_turn(principal, status=TurnStatus.RUNNING)
    # Of the instance that the second service claims to be.
    await store(service.database, principal, turn, a_lease(principal, turn.id, owner="0" * 32))
    await refuse_writes(owner)
    settings = Settings(database_url=database_url, secret=SECRET.decode(), data_dir=tmp_path)
    async with (
        running_app(settings, tmp_path / "engine.sock") as url,
        httpx2.AsyncClient(base_url=url, headers=service.ours.headers) as client,
    ):
        (message,) = (await client.get(HISTORY)).json()["messages"]
        assert message["status"] == "running"


async def test_clients_that_write_while_a_copy_runs_lose_nothing_and_double_nothing(
    service: Service, database_url: str, migrated_sqlite: Path, tmp_path: Path
) -> None:
    target = f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'target.db')}"
    command = [sys.executable, "-m", "tools.data_migration", "copy", "--json"]
    environment = {**os.environ, "COPY_FROM": as_owner(database_url), "COPY_TO": target}
    copied = asyncio.Event()
    answered: list[str] = []

    async def write(number: int) -> None:
        refusals = 0
        while not (copied.is_set() and refusals):
            prompt = script(f"{number} of {len(answered)}")
            answer = await service.ours.post(NEW_MESSAGE, json={"prompt": prompt})
            if answer.status_code == 200:
                answered.append(answer.json()["message_id"])
            else:
                assert_read_only(answer)
                refusals += 1
            # As people do: without a break, nobody else would get at the one lock that SQLite has.
            await asyncio.sleep(0.1)

    writers = [asyncio.create_task(write(number)) for number in range(20)]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=PIPE)
    output, errors = await process.communicate()
    copied.set()
    await asyncio.gather(*writers)
    assert process.returncode == 0, errors
    assert all(row["equal"] for row in json.loads(output))
    assert answered
    assert await _turn_ids(target) == sorted(answered)


async def _key_of(service: Service) -> str:
    (key,) = await service.keys.page(service.our_id, None, 10)
    return key.id


async def _turn_ids(url: str) -> list[str]:
    async with unbound_connection(url) as connection:
        return list((await connection.execute(text("SELECT id FROM turns ORDER BY id"))).scalars())
