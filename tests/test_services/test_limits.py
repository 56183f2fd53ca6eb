"""Limits: exact however many turns begin at once, settled to the token however they end."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, func, select

from app.common.errors import Conflict, RateLimited, TurnInterrupted, Unavailable
from database.clock import now
from database.models import Turn, TurnStatus, Usage
from database.session import Database
from services.answer_delta import TextDelta
from services.limit_service import Limits
from services.live_turn import LiveTurn
from services.principal import Principal
from services.settlement import settlement
from services.turn_log import TurnLog
from tests.conftest import TwoTenants
from tests.limited import ENDS, RESERVED, USED, begin, end, limit, limit_row, refusal
from tests.turns import a_live_turn, an_end, an_opening

_LEASE = timedelta(seconds=30)


@pytest.fixture
def log(database: Database) -> TurnLog:
    return TurnLog(database, owner="0" * 32, lease=_LEASE)


@pytest.mark.parametrize("name", ["requests_per_minute", "turns_at_once", "tokens_per_minute", "tokens_per_month"])
async def test_of_64_turns_at_once_on_a_budget_of_one_exactly_one_begins(
    database: Database, tenants: TwoTenants, log: TurnLog, name: str
) -> None:
    await limit(database, Limits(**{name: RESERVED if "tokens" in name else 1}))
    began = await asyncio.gather(*(begin(log, tenants.ours) for _ in range(64)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in began) == ["LiveTurn"] + ["RateLimited"] * 63
    async with database.begin(tenants.ours.tenant_id) as session:
        assert await session.scalar(select(func.count()).select_from(Turn)) == 1
    assert (await limit_row(database, tenants.ours)).running == 1


async def test_a_quota_is_never_exceeded_and_usage_agrees_with_the_log_however_turns_end(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    quota = 40 * RESERVED
    await limit(database, Limits(tokens_per_month=quota, turns_at_once=20))
    await limit(database, Limits(tokens_per_day=quota), key_id=tenants.ours.key_id)
    seeded = random.Random(5)
    overdrawn = []

    async def talk() -> None:
        for _ in range(8):
            try:
                turn = await begin(log, tenants.ours)
            except RateLimited:
                continue
            overdrawn.append((await limit_row(database, tenants.ours)).month_tokens > quota)
            status = seeded.choice(ENDS)
            turn.append([TextDelta("a word")] * seeded.randrange(2))
            await end(log, tenants.ours, turn, status, seeded.randrange(11))

    await asyncio.gather(*(talk() for _ in range(10)))
    assert not any(overdrawn)
    async with database.begin(tenants.ours.tenant_id) as session:
        columns = (Turn.prompt_tokens, Turn.cached_tokens, Turn.completion_tokens)
        logged = (await session.execute(select(func.count(), *(func.sum(one) for one in columns)))).one()
        failed = await session.scalar(
            select(func.count(Turn.id)).where(Turn.status.in_([TurnStatus.FAILED, TurnStatus.INTERRUPTED]))
        )
        (usage,) = await session.scalars(select(Usage))
    assert (usage.requests, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == tuple(logged)
    assert usage.failed == failed
    for subject in (tenants.ours.tenant_id, tenants.ours.key_id):
        row = await limit_row(database, tenants.ours, subject)
        used = usage.prompt_tokens + usage.completion_tokens
        assert (row.running, row.day_tokens, row.month_tokens) == (0, used, used)


@pytest.mark.parametrize("status", ENDS)
async def test_a_turn_that_ends_gives_back_its_place_and_the_tokens_it_did_not_use(
    database: Database, tenants: TwoTenants, log: TurnLog, status: TurnStatus
) -> None:
    await limit(database, Limits(turns_at_once=1, tokens_per_month=1000))
    turn = await begin(log, tenants.ours)
    row = await limit_row(database, tenants.ours)
    assert (row.running, row.minute_tokens, row.day_tokens, row.month_tokens) == (1, *[RESERVED] * 3)
    assert (await refusal(log, tenants.ours)).retry_after == 1
    await end(log, tenants.ours, turn, status)
    row = await limit_row(database, tenants.ours)
    used = 5 if status == TurnStatus.INTERRUPTED else USED
    assert (row.running, row.minute_tokens, row.day_tokens, row.month_tokens) == (0, used, used, used)
    await begin(log, tenants.ours)


async def test_a_turn_settled_twice_gives_back_once(database: Database, tenants: TwoTenants, log: TurnLog) -> None:
    await limit(database, Limits(tokens_per_month=1000))
    turn, other = await begin(log, tenants.ours), await begin(log, tenants.ours)
    assert await log.interrupt(tenants.ours.tenant_id, turn.id)
    assert not await log.interrupt(tenants.ours.tenant_id, turn.id)
    with pytest.raises(Unavailable):
        await end(log, tenants.ours, turn, TurnStatus.COMPLETED)
    row = await limit_row(database, tenants.ours)
    # What it had used is charged all the same.
    assert (row.running, row.month_tokens) == (1, USED + RESERVED)
    await end(log, tenants.ours, other, TurnStatus.COMPLETED)


async def test_a_turn_that_was_deleted_while_it_ran_gives_back_once(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(tokens_per_month=1000))
    turn, other = await begin(log, tenants.ours), await begin(log, tenants.ours)
    await _delete(database, tenants.ours, turn)
    for ends in (1, 3):
        # At once, too: the first try may be under way still when it is taken for lost.
        ended = await asyncio.gather(
            *(end(log, tenants.ours, turn, TurnStatus.COMPLETED) for _ in range(ends)), return_exceptions=True
        )
        assert {type(one) for one in ended} == {TurnInterrupted}
    row = await limit_row(database, tenants.ours)
    assert (row.running, row.month_tokens) == (1, USED + RESERVED)
    async with database.begin(tenants.ours.tenant_id) as session:
        assert list(await session.scalars(select(Usage.requests))) == [1]
    await end(log, tenants.ours, other, TurnStatus.COMPLETED)


async def test_a_turn_that_was_erased_after_its_end_gives_nothing_back_again(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(tokens_per_month=1000))
    turn, _ = await begin(log, tenants.ours), await begin(log, tenants.ours)
    assert await log.interrupt(tenants.ours.tenant_id, turn.id)
    await _delete(database, tenants.ours, turn)
    before = await limit_row(database, tenants.ours)
    with pytest.raises(TurnInterrupted):
        await end(log, tenants.ours, turn, TurnStatus.COMPLETED)
    row = await limit_row(database, tenants.ours)
    assert (row.running, row.month_tokens) == (before.running, before.month_tokens) == (1, 5 + RESERVED)


async def _delete(database: Database, principal: Principal, turn: LiveTurn) -> None:
    async with database.begin(principal.tenant_id) as session:
        await session.execute(delete(Turn).where(Turn.id == turn.id))


async def test_each_minute_day_and_month_begins_anew(database: Database, tenants: TwoTenants, log: TurnLog) -> None:
    await limit(database, Limits(requests_per_minute=1, tokens_per_day=2 * RESERVED, tokens_per_month=3 * RESERVED))
    at = datetime(2126, 11, 29, 23, 58, 59, tzinfo=UTC)
    for step, begins in [(0, True), (0, False), (1, True), (60, False), (61, True), (122, False), (86461, True)]:
        created_at = at + timedelta(seconds=step)
        if begins:
            await begin(log, tenants.ours, created_at=created_at)
        else:
            with pytest.raises(RateLimited):
                await begin(log, tenants.ours, created_at=created_at)


async def test_a_process_whose_clock_is_behind_counts_in_the_minute_of_the_others(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(requests_per_minute=2, tokens_per_month=1000))
    ahead = datetime(2126, 12, 1, 0, 0, 1, tzinfo=UTC)
    behind = ahead - timedelta(seconds=5)
    first = await begin(log, tenants.ours, created_at=ahead)
    second = await begin(log, tenants.ours, created_at=behind)
    with pytest.raises(RateLimited):
        await begin(log, tenants.ours, created_at=behind)
    for turn in (first, second):
        await end(log, tenants.ours, turn, TurnStatus.COMPLETED)
    row = await limit_row(database, tenants.ours)
    assert (row.minute_requests, row.minute_tokens, row.day_tokens, row.month_tokens) == (2, *[2 * USED] * 3)


async def test_what_is_settled_in_a_later_minute_leaves_that_minute_alone(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(tokens_per_minute=100))
    at = datetime(2126, 11, 22, 12, 0, 59, tzinfo=UTC)
    early = await begin(log, tenants.ours, created_at=at)
    await begin(log, tenants.ours, created_at=at + timedelta(seconds=2))
    await end(log, tenants.ours, early, TurnStatus.COMPLETED)
    row = await limit_row(database, tenants.ours)
    assert (row.minute_tokens, row.day_tokens) == (RESERVED, RESERVED + USED)


async def test_limits_of_a_key_and_of_its_tenant_hold_both_and_nobody_elses(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(requests_per_minute=3))
    await limit(database, Limits(requests_per_minute=2), key_id=tenants.ours.key_id)
    at = now()
    turns = [await begin(log, tenants.ours, created_at=at) for _ in range(2)]
    assert turns[1].allowance is not None
    assert turns[1].allowance.headers()["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(RateLimited):
        await begin(log, tenants.ours, created_at=at)
    await limit(database, Limits(), key_id=tenants.ours.key_id)
    await begin(log, tenants.ours, created_at=at)
    with pytest.raises(RateLimited):
        await begin(log, tenants.ours, created_at=at)
    for _ in range(5):
        await begin(log, tenants.theirs, created_at=at)


async def test_without_limits_nothing_is_told_of_them(tenants: TwoTenants, log: TurnLog) -> None:
    turn = await begin(log, tenants.ours)
    assert turn.allowance is not None
    assert turn.allowance.headers() == {}


async def test_turns_of_one_conversation_that_race_with_its_end_never_block_each_other(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(tokens_per_month=10**6))
    await limit(database, Limits(tokens_per_month=10**6), key_id=tenants.ours.key_id)
    turn, opening = await begin(log, tenants.ours), an_opening(tenants.ours)
    for length in range(0, 20, 2):
        turn.append([TextDelta("a word")])
        following = [a_live_turn(turn.conversation_id) for _ in range(4)]
        outcomes = await asyncio.gather(
            log.settle(settlement(turn, opening, an_end())),
            *(log.open(one, an_opening(tenants.ours, seen_length=length)) for one in following),
            return_exceptions=True,
        )
        assert [one for one in outcomes if one is not None and not isinstance(one, Conflict)] == []
        turn, opening = a_live_turn(turn.conversation_id), an_opening(tenants.ours, seen_length=length + 2)
        await log.open(turn, opening)
