"""Turns that begin while something is erased: PostgreSQL shows a statement that waits only what was there before."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from app.common.errors import Conflict
from database.clock import now
from database.driver import PostgresTransaction, Rows
from database.engine import create_engine
from database.identifier import new_id
from database.models import Conversation, TurnStatus
from database.prepared import Prepared
from database.session import Database
from services.erasure_service import ErasureService
from services.limit_service import Limits
from services.live_turn import LiveTurn
from services.principal import Principal
from services.retention_service import RetentionService
from services.tenant_service import TenantService
from services.turn_log import TurnLog
from tests.conftest import make_tenant
from tests.limited import end, limit, limit_row
from tests.rows import TESTER, a_conversation, store
from tests.turns import a_live_turn, an_opening
from tests.whole_database import until_somebody_waits

_USER, _LONG_AGO = "ann@example.com", now() - timedelta(days=10)


@dataclass
class _Beginning:
    """A turn of a user's old conversation, on PostgreSQL, that has written its first rows but not committed them."""

    database: Database
    principal: Principal
    log: TurnLog
    turn: LiveTurn
    opening: "asyncio.Task[None]"
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def committed_once_somebody_waits(self) -> None:
        await until_somebody_waits(self.database)
        self.go_on.set()
        await self.opening

    async def ends_as_if_nothing_had_been(self) -> None:
        """Also in what it gives back."""
        await end(self.log, self.principal, self.turn, TurnStatus.COMPLETED)
        assert (await limit_row(self.database, self.principal)).running == 0


@pytest.fixture
async def beginning(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[_Beginning]:
    database = Database(create_engine(postgres_url))
    principal = await make_tenant(database, "ours")
    await TenantService(database).change(TESTER, principal.tenant_id, conversation_days=1)
    await limit(database, Limits(turns_at_once=1))
    conversation = a_conversation(user=_USER, created_at=_LONG_AGO, used_at=_LONG_AGO)
    await store(database, principal, conversation)
    log, turn = TurnLog(database, owner=new_id(), lease=timedelta(seconds=30)), a_live_turn(conversation.id)
    commit, written = PostgresTransaction.commit, asyncio.Event()

    async def late(self: PostgresTransaction) -> None:
        written.set()
        await begun.go_on.wait()
        await commit(self)

    async def within(self: Database, tenant_id: str, given: Mapping[str, Any], group: Prepared) -> Rows:
        # Alone, a statement is committed before anybody could say "wait".
        async with self.begin_prepared(tenant_id) as transaction:
            (rows,) = await transaction.run(given, group)
        return rows

    monkeypatch.setattr(PostgresTransaction, "commit", late)
    monkeypatch.setattr(Database, "run_prepared", within)
    opening = asyncio.create_task(log.open(turn, an_opening(principal, seen_length=0)))
    begun = _Beginning(database, principal, log, turn, opening)
    await written.wait()
    yield begun
    await database.close()


async def test_a_user_whose_turn_was_about_to_begin_is_not_erased(beginning: _Beginning) -> None:
    erasing = asyncio.create_task(
        ErasureService(beginning.database, 2).user(TESTER, beginning.principal.tenant_id, _USER)
    )
    await beginning.committed_once_somebody_waits()
    with pytest.raises(Conflict) as caught:
        await erasing
    assert (caught.value.code, caught.value.retry_after) == ("turn_running", 1)
    await beginning.ends_as_if_nothing_had_been()


async def test_a_conversation_in_which_a_turn_was_about_to_begin_is_not_purged(beginning: _Beginning) -> None:
    other = a_conversation(created_at=_LONG_AGO, used_at=_LONG_AGO)
    await store(beginning.database, beginning.principal, other)
    purging = asyncio.create_task(RetentionService(beginning.database, batch=1, interval=60).purge(TESTER))
    await beginning.committed_once_somebody_waits()
    # However small the batch: others do not wait behind it.
    assert await purging == Counter(conversations=1)
    async with beginning.database.begin(beginning.principal.tenant_id) as session:
        assert await session.get(Conversation, other.id) is None
    await beginning.ends_as_if_nothing_had_been()


async def test_a_conversation_in_which_a_turn_was_about_to_begin_is_not_erased(beginning: _Beginning) -> None:
    conversation_id = beginning.turn.conversation_id
    assert conversation_id is not None
    erasing = asyncio.create_task(
        ErasureService(beginning.database, 2).conversation(TESTER, beginning.principal.tenant_id, conversation_id)
    )
    await beginning.committed_once_somebody_waits()
    with pytest.raises(Conflict):
        await erasing
    await beginning.ends_as_if_nothing_had_been()


async def test_a_tenant_whose_turn_was_about_to_begin_is_not_erased(beginning: _Beginning) -> None:
    tenant_id = beginning.principal.tenant_id
    suspending = asyncio.create_task(TenantService(beginning.database).suspend(TESTER, tenant_id))
    await beginning.committed_once_somebody_waits()
    await suspending
    with pytest.raises(Conflict):
        await ErasureService(beginning.database, 2).tenant(TESTER, tenant_id)
    await beginning.ends_as_if_nothing_had_been()
