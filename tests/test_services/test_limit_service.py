"""Limits as administrators set them: at any time, and exact from then on."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.common.errors import InvalidRequest, NotFound, RateLimited
from database.clock import now
from database.engine import create_engine
from database.identifier import new_id
from database.models import Turn, TurnStatus
from database.repositories.limit_repository import LimitRepository
from database.session import Database
from services.answer_delta import TextDelta
from services.key_service import KeyService
from services.key_token import Peppers
from services.limit_service import Limits, LimitService
from services.live_turn import LiveTurn
from services.principal import TENANT_SCOPES, Principal
from services.settlement import settlement
from services.turn_log import TurnLog
from tests.conftest import TwoTenants, make_tenant
from tests.limited import RESERVED, USED, begin, end, limit, limit_row
from tests.rows import TESTER
from tests.turns import a_live_turn, an_end, an_opening
from tests.whole_database import unbound_connection

_LEASE = timedelta(seconds=30)


@pytest.fixture
def log(database: Database) -> TurnLog:
    return TurnLog(database, owner="0" * 32, lease=_LEASE)


async def test_a_limit_that_comes_later_knows_what_runs_and_what_was_used(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    at = now()
    for _ in range(2):
        await end(log, tenants.ours, await begin(log, tenants.ours, created_at=at), TurnStatus.COMPLETED)
    running = await begin(log, tenants.ours, created_at=at)
    await limit(database, Limits(turns_at_once=2, tokens_per_month=1000))
    await limit(database, Limits(turns_at_once=1), key_id=tenants.ours.key_id)
    for subject in (tenants.ours.tenant_id, tenants.ours.key_id):
        row = await limit_row(database, tenants.ours, subject)
        assert (row.running, row.month_tokens) == (1, 2 * USED + RESERVED)
    with pytest.raises(RateLimited):
        await begin(log, tenants.ours)
    await end(log, tenants.ours, running, TurnStatus.COMPLETED)
    row = await limit_row(database, tenants.ours)
    assert (row.running, row.month_tokens) == (0, 3 * USED)


async def test_a_limit_set_while_turns_begin_and_end_counts_each_of_them_once(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    async def talk() -> None:
        for _ in range(4):
            await end(log, tenants.ours, await begin(log, tenants.ours), TurnStatus.COMPLETED)

    await asyncio.gather(*(talk() for _ in range(6)), limit(database, Limits(tokens_per_month=10**6)))
    row = await limit_row(database, tenants.ours)
    assert (row.running, row.month_tokens) == (0, 24 * USED)


async def test_limits_set_while_conversations_and_lists_go_on_block_nobody(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(tokens_per_month=10**6))

    async def talk() -> None:
        turn, opening = await begin(log, tenants.ours), an_opening(tenants.ours)
        for length in range(2, 42, 2):
            turn.append([TextDelta("a word")])
            await log.settle(settlement(turn, opening, an_end()))
            turn, opening = a_live_turn(turn.conversation_id), an_opening(tenants.ours, seen_length=length)
            await log.open(turn, opening)

    async def ask_for_lists() -> None:
        for _ in range(10):
            turns = [(_alone(), an_opening(tenants.ours)) for _ in range(3)]
            await log.open_together(turns)
            await asyncio.gather(*(log.settle(settlement(*one, an_end())) for one in turns))

    async def set_limits() -> None:
        for number in range(30):
            await limit(database, Limits(tokens_per_month=10**6 + number))

    await asyncio.gather(*(talk() for _ in range(5)), *(ask_for_lists() for _ in range(2)), set_limits())
    row = await limit_row(database, tenants.ours)
    assert (row.running, row.month_tokens) == (5, 5 * (20 * USED + RESERVED) + 60 * USED)


def _alone() -> LiveTurn:
    at = now()
    return LiveTurn(id=new_id(at), conversation_id=None, created_at=at, prompt_tokens=5)


async def test_limits_that_are_there_are_changed_without_a_wait_for_other_tenants(postgres_url: str) -> None:
    database = Database(create_engine(postgres_url, timeout=60))
    ours = await make_tenant(database, "ours")
    await limit(database, Limits(turns_at_once=1))
    async with unbound_connection(database) as connection, asyncio.timeout(30):
        # As long as a batch of an erasure may take.
        await connection.execute(text("LOCK TABLE turns IN ROW EXCLUSIVE MODE"))
        await limit(database, Limits(turns_at_once=2))
    assert (await limit_row(database, ours)).turns_at_once == 2
    await database.close()


async def test_a_key_that_is_rotated_while_its_first_limit_is_made_is_counted_with_its_successor(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(create_engine(postgres_url))
    ours = await make_tenant(database, "ours")
    stop, log = LimitRepository.stop_turns, TurnLog(database, owner="0" * 32, lease=_LEASE)

    async def rotate_before(self: LimitRepository, tenant_id: str) -> list[Turn] | None:
        made = await KeyService(database, Peppers(b"s" * 32)).rotate(TESTER, tenant_id, ours.key_id, timedelta(hours=1))
        successor = Principal(
            tenant_id=tenant_id, key_id=made.row.id, scopes=TENANT_SCOPES, shares_limits_of=made.row.limit_subject
        )
        await begin(log, successor)
        return await stop(self, tenant_id)

    monkeypatch.setattr(LimitRepository, "stop_turns", rotate_before)
    await limit(database, Limits(turns_at_once=1), key_id=ours.key_id)
    assert (await limit_row(database, ours, ours.key_id)).running == 1
    await database.close()


async def test_what_is_no_limit_is_refused(database: Database, tenants: TwoTenants) -> None:
    for number in (-1, 2**53 + 1):
        with pytest.raises(InvalidRequest):
            await limit(database, Limits(tokens_per_day=number))
    with pytest.raises(NotFound):
        await limit(database, Limits(tokens_per_day=1), tenant_id=new_id())
    with pytest.raises(NotFound):
        await limit(database, Limits(tokens_per_day=1), key_id=tenants.theirs.key_id)
    assert await LimitService(database).of_tenant(tenants.ours.tenant_id) == []


async def test_a_limit_of_nothing_allows_nothing(database: Database, tenants: TwoTenants, log: TurnLog) -> None:
    await limit(database, Limits(requests_per_minute=0))
    with pytest.raises(RateLimited):
        await begin(log, tenants.ours)
    assert (await limit_row(database, tenants.ours)).running == 0
