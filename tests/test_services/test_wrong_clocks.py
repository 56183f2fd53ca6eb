"""Clocks that are wrong: nobody's limits are shut by them, nobody's turns are taken for dead."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.common.errors import ClockWrong, RateLimited, Unauthenticated
from database import clock_skew as skewed
from database.clock import now
from database.clock_skew import LONGEST_SKEW, clock_skew
from database.engine import create_engine
from database.repositories import key_repository
from database.session import Database
from services import limit_service, retention_service
from services.authentication_service import AuthenticationService
from services.inference.engine import Engine
from services.key_service import KeyService
from services.key_token import Peppers
from services.limit_service import Limits
from services.limit_window import windows
from services.principal import Principal
from services.recovery_service import RecoveryService
from services.retention_service import RetentionService
from services.settlement_service import SettlementService
from services.stream_access import StreamAccess
from services.tenant_service import TenantService
from services.turn_log import TurnLog
from services.turn_runner import TurnPlan, TurnRunner
from tests.conftest import TwoTenants, make_tenant
from tests.limited import RESERVED, begin, limit, limit_row
from tests.rows import TESTER, a_turn, a_usage, store
from tests.whole_database import row_counts

_LEASE = timedelta(milliseconds=60)
_MONTH, _HOUR = timedelta(days=31), timedelta(hours=1)


@pytest.fixture
def log(database: Database) -> TurnLog:
    return TurnLog(database, owner="0" * 32, lease=_LEASE)


@pytest.mark.parametrize("ahead", [_MONTH, _HOUR, timedelta(minutes=7)])
async def test_a_clock_that_was_far_ahead_does_not_shut_the_windows_for_those_that_are_right(
    database: Database, tenants: TwoTenants, log: TurnLog, ahead: timedelta
) -> None:
    await limit(database, Limits(requests_per_minute=2, tokens_per_minute=2 * RESERVED, tokens_per_month=1000))
    at = now()
    for _ in range(2):
        await begin(log, tenants.ours, created_at=at + ahead)
    for _ in range(2):
        await begin(log, tenants.ours, created_at=at)
    with pytest.raises(RateLimited) as refused:
        await begin(log, tenants.ours, created_at=at)
    assert refused.value.retry_after is not None
    row = await limit_row(database, tenants.ours)
    assert row.minute == windows(at)["limit_minute"]
    assert (row.minute_requests, row.minute_tokens) == (2, 2 * RESERVED)
    # What was counted in this very month stays.
    same_month = windows(at)["limit_month"] == windows(at + ahead)["limit_month"]
    assert row.month_tokens == (4 if same_month else 2) * RESERVED
    assert row.month == windows(at)["limit_month"]


async def test_of_64_turns_after_a_clock_that_was_far_ahead_exactly_as_many_begin_as_may(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(requests_per_minute=3))
    at = now()
    await begin(log, tenants.ours, created_at=at + _MONTH)
    began = await asyncio.gather(*(begin(log, tenants.ours, created_at=at) for _ in range(64)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in began) == ["LiveTurn"] * 3 + ["RateLimited"] * 61


async def test_a_clock_that_is_a_little_behind_opens_no_window_anew(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(requests_per_minute=1))
    at = now()
    await begin(log, tenants.ours, created_at=at)
    for minutes in range(1, 5):
        with pytest.raises(RateLimited):
            await begin(log, tenants.ours, created_at=at - timedelta(minutes=minutes))


async def test_a_key_ends_by_the_databases_clock_and_its_use_is_noted_by_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = b"s" * 40
    database = Database(create_engine(postgres_url))
    keys, tenant = KeyService(database, Peppers(secret)), await TenantService(database).create(TESTER, "ours")
    ended, goes_on = [await keys.create(TESTER, tenant.id) for _ in range(2)]
    await keys.change(TESTER, tenant.id, ended.row.id, expires_at=now())
    await keys.change(TESTER, tenant.id, goes_on.row.id, expires_at=now() + _HOUR)
    streams = StreamAccess(database, secret)
    for off in (-_HOUR * 2, _HOUR * 2):
        tokens = [
            streams.token(
                Principal(tenant_id=tenant.id, key_id=made.row.id, scopes=frozenset()), "a turn", now() + _HOUR * 9
            )
            for made in (ended, goes_on)
        ]
        with monkeypatch.context() as wrong:
            wrong.setattr(key_repository, "now", lambda off=off: now() + off)
            authentication = AuthenticationService(database, Peppers(secret))
            with pytest.raises(Unauthenticated):
                await authentication.authenticate(ended.secret)
            with pytest.raises(Unauthenticated):
                await streams.tenant(tokens[0], "a turn")
            assert (await authentication.authenticate(goes_on.secret)).key_id == goes_on.row.id
            assert await streams.tenant(tokens[1], "a turn") == tenant.id
        used = (await keys.get(goes_on.row.id)).last_used_at
        assert used is not None
        assert abs(used - now()) < timedelta(minutes=5)
    await database.close()


async def test_how_far_a_clock_is_off_the_databases_is_known(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert abs(await clock_skew(database)) < timedelta(seconds=1)
    is_postgresql = database._connections is not None
    for off in (_MONTH, -_HOUR):
        monkeypatch.setattr(skewed, "now", lambda off=off: now() + off)
        expected = off if is_postgresql else timedelta()
        assert abs(await clock_skew(database) - expected) < timedelta(seconds=1)


async def test_while_the_clock_is_wrong_no_turn_begins_and_nobody_is_taken_for_dead(
    database: Database, tenants: TwoTenants, log: TurnLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = LONGEST_SKEW * 2

    async def skew(_database: Database) -> timedelta:
        asked.put_nowait(None)
        return off

    asked: asyncio.Queue[None] = asyncio.Queue()
    monkeypatch.setattr("services.recovery_service.clock_skew", skew)
    nothing_waits: Any = SimpleNamespace(waiting=(), check_room=lambda: None)
    settlements = cast("SettlementService", nothing_waits)
    runner = TurnRunner(cast("Engine", None), log, settlements)
    # Its process gives no sign of life.
    await begin(log, tenants.ours, created_at=now() - timedelta(minutes=5))
    recovery = RecoveryService(database, log, runner, settlements, lease=_LEASE)
    task = asyncio.create_task(recovery.run())
    for _ in range(6):
        await asked.get()
    assert recovery.recovered == 0
    with pytest.raises(ClockWrong):
        await runner.start(cast("TurnPlan", None))
    off = timedelta()
    # Put right, it waits for the length of a lease.
    for _ in range(6):
        await asked.get()
    assert not runner.clock_is_wrong
    assert recovery.recovered == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_by_a_clock_that_is_wrong_nothing_is_purged_nor_said_of_what_would_be(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(create_engine(postgres_url))
    ours = await make_tenant(database, "ours")
    await store(database, ours, a_turn(ours), a_turn(ours, created_at=now() - 2 * _MONTH))
    await TenantService(database).change(TESTER, ours.tenant_id, turn_days=30)
    retention = RetentionService(database, batch=10, interval=3600)
    for off in (_MONTH, -_HOUR):
        for module in (skewed, retention_service):
            monkeypatch.setattr(module, "now", lambda off=off: now() + off)
        for refused in (retention.preview(), retention.purge(TESTER)):
            with pytest.raises(ClockWrong):
                await refused
    assert (await row_counts(database))["turns"] == 2
    monkeypatch.undo()
    assert await retention.preview() == await retention.purge(TESTER) == {"turns": 1}
    await database.close()


async def test_by_a_clock_that_is_wrong_no_limit_is_set_which_would_forget_what_is_used(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(create_engine(postgres_url))
    ours = await make_tenant(database, "ours")
    await store(database, ours, a_turn(ours), a_usage(ours, prompt_tokens=1000, completion_tokens=0))
    for off in (-_MONTH, _HOUR):
        for module in (skewed, limit_service):
            monkeypatch.setattr(module, "now", lambda off=off: now() + off)
        with pytest.raises(ClockWrong):
            await limit(database, Limits(tokens_per_month=1000))
    monkeypatch.undo()
    await limit(database, Limits(tokens_per_month=1000))
    assert (await limit_row(database, ours)).month_tokens == 1000
    await database.close()
