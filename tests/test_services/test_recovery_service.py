"""Turns whose process died are settled as interrupted, once; living ones are left alone."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import select

from app.common.errors import TurnInterrupted, Unavailable
from database.clock import now
from database.engine import create_engine
from database.identifier import new_id
from database.models import Lease, Turn, TurnStatus, TurnText, Usage
from database.session import Database
from services.answer_delta import TextDelta
from services.live_turn import LiveTurn
from services.principal import Principal
from services.recovery_service import RecoveryService
from services.settlement import settlement
from services.settlement_service import SettlementService
from services.turn_log import TurnLog
from services.turn_runner import TurnRunner
from tests.conftest import TwoTenants
from tests.turns import a_live_turn, an_end, an_opening

_LEASE = timedelta(seconds=30)
_OWNER, _DEAD = new_id(), new_id()


class _Runner:
    """Says which turns live, and tells each time it is asked; the first time it may fail as a database does."""

    def __init__(self, running: list[str], *, fails_first: bool = False) -> None:
        self._running = running
        self._fails = fails_first
        self.asked: asyncio.Queue[None] = asyncio.Queue()

    @property
    def running(self) -> list[str]:
        self.asked.put_nowait(None)
        if self._fails:
            self._fails = False
            raise Unavailable("The database cannot be reached.")
        return self._running


def _log(database: Database, owner: str = _OWNER) -> TurnLog:
    return TurnLog(database, owner=owner, lease=_LEASE)


def _recovery(database: Database, runner: _Runner | None = None, lease: timedelta = _LEASE) -> RecoveryService:
    nothing_waits = cast("SettlementService", SimpleNamespace(waiting=()))
    return RecoveryService(database, _log(database), cast("TurnRunner", runner), nothing_waits, lease=lease)


async def _opened(database: Database, principal: Principal, *, owner: str = _OWNER, expired: bool = False) -> LiveTurn:
    turn = a_live_turn(created_at=now() - timedelta(minutes=5) if expired else now())
    await _log(database, owner).open(turn, an_opening(principal))
    return turn


async def _status(database: Database, principal: Principal, turn: LiveTurn) -> str:
    async with database.begin(principal.tenant_id) as session:
        return (await session.get_one(Turn, turn.id)).status


async def _leased(database: Database) -> set[str]:
    async with database.begin_global() as session:
        return set(await session.scalars(select(Lease.turn_id)))


async def test_an_expired_turn_is_interrupted_and_a_living_one_is_not(database: Database, tenants: TwoTenants) -> None:
    dead = [await _opened(database, principal, expired=True) for principal in (tenants.ours, tenants.theirs)]
    alive = await _opened(database, tenants.ours)
    assert await _recovery(database).recover() == 2
    assert await _status(database, tenants.ours, dead[0]) == TurnStatus.INTERRUPTED
    assert await _status(database, tenants.theirs, dead[1]) == TurnStatus.INTERRUPTED
    assert await _status(database, tenants.ours, alive) == TurnStatus.RUNNING
    assert await _leased(database) == {alive.id}
    assert await _recovery(database).recover() == 0


async def test_a_turn_that_cannot_be_settled_does_not_keep_the_others_from_it(
    database: Database, tenants: TwoTenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = [await _opened(database, tenants.ours, expired=True) for _ in range(3)]
    interrupt = TurnLog.interrupt

    async def broken(self: TurnLog, tenant_id: str, turn_id: str) -> bool:
        if turn_id == dead[0].id:
            raise RuntimeError("a defect")
        return await interrupt(self, tenant_id, turn_id)

    with monkeypatch.context() as patch:
        patch.setattr(TurnLog, "interrupt", broken)
        assert await _recovery(database).recover() == 2
    assert await _leased(database) == {dead[0].id}
    assert await _recovery(database).recover() == 1


async def test_an_interrupted_turn_has_an_end_and_keeps_its_prompt(database: Database, tenants: TwoTenants) -> None:
    turn = await _opened(database, tenants.ours, expired=True)
    await _recovery(database).recover()
    async with database.begin(tenants.ours.tenant_id) as session:
        row, text = await session.get_one(Turn, turn.id), await session.get_one(TurnText, turn.id)
    assert row.finished_at is not None
    assert (text.prompt, text.response) == ("a question", "")


async def test_a_conversation_goes_on_after_an_interrupted_turn(database: Database, tenants: TwoTenants) -> None:
    turn = await _opened(database, tenants.ours, expired=True)
    await _recovery(database).recover()
    await _log(database).open(a_live_turn(turn.conversation_id), an_opening(tenants.ours, seen_length=0))


async def test_a_dead_owners_turns_are_interrupted_at_once_and_nobody_elses(
    database: Database, tenants: TwoTenants
) -> None:
    dead = await _opened(database, tenants.ours, owner=_DEAD)
    alive = await _opened(database, tenants.ours)
    assert await _recovery(database).recover(dead_owner=_DEAD) == 1
    assert await _status(database, tenants.ours, dead) == TurnStatus.INTERRUPTED
    assert await _status(database, tenants.ours, alive) == TurnStatus.RUNNING


async def test_a_turn_that_ended_keeps_its_end(database: Database, tenants: TwoTenants) -> None:
    turn = await _opened(database, tenants.ours, owner=_DEAD)
    await _log(database).settle(settlement(turn, an_opening(tenants.ours), an_end()))
    assert await _recovery(database).recover(dead_owner=_DEAD) == 0
    assert await _status(database, tenants.ours, turn) == TurnStatus.COMPLETED


async def test_a_turn_given_up_cannot_be_settled_later(database: Database, tenants: TwoTenants) -> None:
    turn = await _opened(database, tenants.ours, expired=True)
    await _recovery(database).recover()
    with pytest.raises(Unavailable):
        await _log(database).settle(settlement(turn, an_opening(tenants.ours), an_end()))
    assert await _status(database, tenants.ours, turn) == TurnStatus.INTERRUPTED


async def test_what_a_turn_given_up_had_said_and_used_is_added_once_and_its_end_stays(
    database: Database, tenants: TwoTenants
) -> None:
    opening, turn = an_opening(tenants.ours), await _opened(database, tenants.ours, expired=True)
    await _recovery(database).recover()
    turn.append([TextDelta("an answer")])
    late = settlement(turn, opening, an_end(finish_reasons=("stop",)))
    for _ in range(2):
        with pytest.raises(TurnInterrupted):
            await _log(database).settle(late)
    async with database.begin(tenants.ours.tenant_id) as session:
        row, text = await session.get_one(Turn, turn.id), await session.get_one(TurnText, turn.id)
        (usage,) = await session.scalars(select(Usage))
    assert (row.status, row.finish_reason, row.completion_tokens) == (TurnStatus.INTERRUPTED, None, 7)
    assert text.response == "an answer"
    assert (usage.requests, usage.failed, usage.prompt_tokens, usage.cached_tokens) == (1, 1, 5, 2)
    assert usage.completion_tokens == 7


async def test_recoveries_at_the_same_time_settle_each_turn_once(
    database: Database, database_url: str, tenants: TwoTenants
) -> None:
    turns = [await _opened(database, tenants.ours, expired=True) for _ in range(20)]
    replicas = [Database(create_engine(database_url)) for _ in range(3)]
    for replica in replicas:
        await replica.ping()
    settled = await asyncio.gather(*(_recovery(replica).recover() for replica in replicas))
    assert sum(settled) == len(turns)
    assert await _leased(database) == set()
    for replica in replicas:
        await replica.close()


@pytest.mark.parametrize("fails_first", [False, True])
async def test_running_renews_the_living_and_settles_the_dead_whatever_happens_once(
    database: Database, tenants: TwoTenants, fails_first: bool
) -> None:
    alive, dead = [await _opened(database, tenants.ours, expired=True) for _ in range(2)]
    runner = _Runner([alive.id], fails_first=fails_first)
    task = asyncio.create_task(_recovery(database, runner, timedelta(milliseconds=30)).run())
    # The database has to be there for the length of a lease; only then is anybody taken for dead.
    for _ in range(3 + fails_first):
        await runner.asked.get()
    assert await _status(database, tenants.ours, dead) == TurnStatus.RUNNING
    # When it asks again, what it was told before has been dealt with.
    for _ in range(2):
        await runner.asked.get()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await _status(database, tenants.ours, alive) == TurnStatus.RUNNING
    assert await _status(database, tenants.ours, dead) == TurnStatus.INTERRUPTED
    assert await _leased(database) == {alive.id}
