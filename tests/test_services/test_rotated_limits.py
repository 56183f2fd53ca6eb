"""Limits of a key that is rotated: one budget for it and whatever follows it, in every way a turn comes and goes."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from sqlalchemy import func, select

from app.common.errors import RateLimited, TurnInterrupted
from database.clock import now
from database.models import Limit, Turn, TurnStatus, Usage
from database.session import Database
from services.authentication_service import AuthenticationService
from services.key_service import KeyService
from services.key_token import Peppers
from services.limit_service import Limits, LimitService
from services.principal import Principal
from services.recovery_service import RecoveryService
from services.settlement import Settlement, settlement
from services.settlement_service import SettlementService
from services.turn_log import TurnLog
from services.turn_runner import TurnRunner
from tests.conftest import TwoTenants
from tests.limited import ENDS, RESERVED, USED, begin, end, limit, limit_row
from tests.rows import TESTER
from tests.turns import an_end, an_opening

_LEASE, _HOUR = timedelta(seconds=30), timedelta(hours=1)
_PEPPERS = Peppers(b"s" * 32)
_OWNER = "0" * 32


@pytest.fixture
def log(database: Database) -> TurnLog:
    return TurnLog(database, owner=_OWNER, lease=_LEASE)


async def _rotated(database: Database, old: Principal) -> Principal:
    """Who shows the key that was made of an old one."""
    made = await KeyService(database, _PEPPERS).rotate(TESTER, old.tenant_id, old.key_id, _HOUR)
    return await AuthenticationService(database, _PEPPERS).authenticate(made.secret)


async def test_limits_survive_a_rotation_and_the_next_one(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(requests_per_minute=2), key_id=tenants.ours.key_id)
    second = await _rotated(database, tenants.ours)
    third = await _rotated(database, second)
    at = now()
    await begin(log, tenants.ours, created_at=at)
    await begin(log, third, created_at=at)
    for principal in (tenants.ours, second, third):
        with pytest.raises(RateLimited):
            await begin(log, principal, created_at=at)
    await begin(log, tenants.theirs, created_at=at)


@pytest.mark.parametrize(
    "name", ["requests_per_minute", "turns_at_once", "tokens_per_minute", "tokens_per_day", "tokens_per_month"]
)
async def test_of_64_clients_over_both_keys_on_a_budget_of_one_exactly_one_begins(
    database: Database, tenants: TwoTenants, log: TurnLog, name: str
) -> None:
    await limit(database, Limits(**{name: RESERVED if "tokens" in name else 1}), key_id=tenants.ours.key_id)
    both = [tenants.ours, await _rotated(database, tenants.ours)]
    at = now()
    began = await asyncio.gather(
        *(begin(log, both[number % 2], created_at=at) for number in range(64)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in began) == ["LiveTurn"] + ["RateLimited"] * 63
    async with database.begin(tenants.ours.tenant_id) as session:
        assert await session.scalar(select(func.count()).select_from(Turn)) == 1
        assert [row.subject for row in await session.scalars(select(Limit))] == [tenants.ours.key_id]


@pytest.mark.parametrize("status", ENDS)
async def test_the_turn_of_a_successor_gives_back_to_the_shared_budget_and_is_its_own_in_the_usage(
    database: Database, tenants: TwoTenants, log: TurnLog, status: TurnStatus
) -> None:
    await limit(database, Limits(turns_at_once=1, tokens_per_month=1000), key_id=tenants.ours.key_id)
    successor = await _rotated(database, tenants.ours)
    turn = await begin(log, successor)
    with pytest.raises(RateLimited):
        await begin(log, tenants.ours)
    await end(log, successor, turn, status)
    row = await limit_row(database, tenants.ours, tenants.ours.key_id)
    assert (row.running, row.month_tokens) == (0, 5 if status == TurnStatus.INTERRUPTED else USED)
    await begin(log, tenants.ours)
    async with database.begin(tenants.ours.tenant_id) as session:
        assert [usage.key_id for usage in await session.scalars(select(Usage))] == [successor.key_id]
        assert (await session.get_one(Turn, turn.id)).key_id == successor.key_id


async def test_recovery_frees_the_shared_budget_of_a_process_that_died_and_a_late_end_is_charged_to_it(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(turns_at_once=1, tokens_per_month=1000), key_id=tenants.ours.key_id)
    successor = await _rotated(database, tenants.ours)
    turn = await begin(log, successor)
    nothing_waits = cast("SettlementService", SimpleNamespace(waiting=()))
    recovery = RecoveryService(database, log, cast("TurnRunner", None), nothing_waits, lease=_LEASE)
    assert await recovery.recover(dead_owner=_OWNER) == 1
    row = await limit_row(database, tenants.ours, tenants.ours.key_id)
    assert (row.running, row.month_tokens) == (0, 5)
    with pytest.raises(TurnInterrupted):
        await log.settle(settlement(turn, an_opening(successor), an_end()))
    assert (await limit_row(database, tenants.ours, tenants.ours.key_id)).month_tokens == USED
    await begin(log, tenants.ours)


async def test_an_end_that_waited_in_a_file_frees_the_shared_budget_and_an_older_files_that_of_its_key(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(turns_at_once=2), key_id=tenants.ours.key_id)
    successor = await _rotated(database, tenants.ours)
    old, new = await begin(log, tenants.ours), await begin(log, successor)
    kept = msgspec.json.encode(settlement(new, an_opening(successor), an_end()))
    await log.settle(msgspec.json.decode(kept, type=Settlement))
    assert (await limit_row(database, tenants.ours, tenants.ours.key_id)).running == 1
    older = msgspec.json.decode(msgspec.json.encode(settlement(old, an_opening(tenants.ours), an_end())))
    del older["limit_subject"]
    await log.settle(msgspec.convert(older, Settlement))
    assert (await limit_row(database, tenants.ours, tenants.ours.key_id)).running == 0


async def test_limits_set_for_either_key_are_those_of_both_with_what_both_have_used(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    successor = await _rotated(database, tenants.ours)
    at = now()
    await end(log, successor, await begin(log, successor, created_at=at), TurnStatus.COMPLETED)
    running = await begin(log, tenants.ours, created_at=at)
    service = LimitService(database)
    both = [tenants.ours.key_id, successor.key_id]
    for key_id, turns in ((successor.key_id, 3), (tenants.ours.key_id, 1)):
        kept = await service.set(TESTER, tenants.ours.tenant_id, Limits(turns_at_once=turns), key_id=key_id)
        assert (kept.keys, kept.row.running, kept.row.month_tokens) == (both, 1, USED + RESERVED)
    (listed,) = await service.of_tenant(tenants.ours.tenant_id)
    assert (listed.keys, listed.row.turns_at_once) == (both, 1)
    with pytest.raises(RateLimited):
        await begin(log, successor)
    await end(log, tenants.ours, running, TurnStatus.COMPLETED)
    await begin(log, successor)


async def test_a_key_that_was_not_rotated_shares_with_nobody(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    made = await KeyService(database, _PEPPERS).create(TESTER, tenants.ours.tenant_id)
    other = replace(tenants.ours, key_id=made.row.id)
    await limit(database, Limits(turns_at_once=1), key_id=tenants.ours.key_id)
    await begin(log, tenants.ours)
    await begin(log, other)
    (listed,) = await LimitService(database).of_tenant(tenants.ours.tenant_id)
    assert (listed.keys, listed.row.running) == ([tenants.ours.key_id], 1)
