"""What the rows say when all is over, held against what clients saw: every turn once, in one state, and counted."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine import create_engine
from database.models import Conversation, Item, Lease, Limit, Turn, TurnStatus, TurnText, Usage
from database.session import Database
from services.limit_window import windows
from services.tenant_service import TenantService
from tests.test_faults.attempt import Attempt
from tests.whole_database import unbound_connection
from tools.data_migration.verification import verify

# What callers are told who get no turn.
_BEFORE_ANY_ROW = {"rate_limit_exceeded", "conversation_locked", "overloaded", "engine_unavailable", "read_only"}
# Of a character that was cut.
_CUT = "\ufffd"


@dataclass(frozen=True, slots=True)
class Ledger:
    """All turns, and what was said in them.

    Attributes:
        turns: by prompt; columns of `turns`, with `prompt` and `response`.
    """

    turns: dict[str, Row[Any]]

    def states(self) -> Counter[str]:
        """How many turns ended how."""
        return Counter(turn.status for turn in self.turns.values())


async def settled(url: str, seconds: float) -> float:
    """Wait until no turn runs and no lease is left; how long that took, seconds. Fails after so many."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with unbound_connection(url) as connection:
        running = select(Turn.id).where(Turn.status == TurnStatus.RUNNING)
        while left := [
            *(await connection.scalars(running)),
            *(await connection.scalars(select(Lease.turn_id))),
        ]:
            await connection.rollback()
            assert loop.time() - began < seconds, f"still running, or leased: {left}"
            await asyncio.sleep(0.1)
    return loop.time() - began


async def audited(url: str, attempts: Sequence[Attempt]) -> Ledger:
    """The ledger, once everything in it has been checked."""
    async with unbound_connection(url) as connection:
        ledger = Ledger(await _turns(connection))
        asked = {attempt.prompt: attempt for attempt in attempts}
        assert set(ledger.turns) <= set(asked), "there are turns that nobody asked for"
        for attempt in attempts:
            _check(attempt, ledger.turns.get(attempt.prompt))
        await _check_conversations(connection, ledger)
        await _check_usage(connection, ledger)
        await _check_limits(connection, ledger)
    await verified(url)
    return ledger


async def _turns(connection: AsyncConnection) -> dict[str, Row[Any]]:
    query = select(Turn.__table__, TurnText.prompt, TurnText.response).join(TurnText, TurnText.turn_id == Turn.id)
    rows = (await connection.execute(query)).all()
    counts = Counter(row.prompt for row in rows)
    assert max(counts.values(), default=1) == 1, f"asked once, and there twice: {counts.most_common(3)}"
    return {row.prompt: row for row in rows}


def _check(attempt: Attempt, turn: Row[Any] | None) -> None:
    told = f"{attempt}, but the row is {turn}"
    if turn is None:
        assert not attempt.was_accepted, told
        return
    assert (turn.tenant_id, turn.key_id) == (attempt.tenant_id, attempt.key_id), told
    assert turn.status != TurnStatus.RUNNING, told
    assert (turn.response if turn.status == TurnStatus.COMPLETED else "") in {attempt.said, ""}, told
    assert attempt.said.startswith(turn.response.removesuffix(_CUT)), told
    assert attempt.said.startswith(attempt.heard.removesuffix(_CUT)), told
    if attempt.message_id is not None:
        assert turn.id == attempt.message_id, told
    if attempt.was_refused:
        assert attempt.code not in _BEFORE_ANY_ROW, told
    match attempt.outcome:
        case "completed":
            assert turn.status == TurnStatus.COMPLETED, told
            assert attempt.heard == turn.response, told
            assert attempt.tokens == (turn.prompt_tokens, turn.completion_tokens), told
        case "failed" | "cancelled":
            assert turn.status == attempt.outcome, told
            assert attempt.heard == turn.response, told


async def _check_conversations(connection: AsyncConnection, ledger: Ledger) -> None:
    """Each holds the prompt and the answer of every turn that was heard, in order, and nothing else."""
    query = select(Item.conversation_id, Item.turn_id, Item.role, Item.text).order_by(
        Item.conversation_id, Item.position
    )
    items: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in await connection.execute(query.where(Item.conversation_id.is_not(None))):
        items[row.conversation_id].append((row.role, row.text))
    expected: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for turn in sorted(ledger.turns.values(), key=lambda row: str(row.id)):
        if turn.status == TurnStatus.COMPLETED or (turn.status == TurnStatus.CANCELLED and turn.response):
            expected[turn.conversation_id] += [("user", turn.prompt), ("assistant", turn.response)]
    expected.pop(None, None)  # type: ignore[call-overload]  # turns in no conversation
    assert items == expected
    for one in await connection.execute(select(Conversation.id, Conversation.length)):
        assert one.length == len(items.get(one.id, [])), one


async def _check_usage(connection: AsyncConnection, ledger: Ledger) -> None:
    names = ("requests", "cancelled", "failed", "prompt_tokens", "completion_tokens")
    logged: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for turn in ledger.turns.values():
        ended = logged[turn.tenant_id, turn.key_id]
        ended["requests"] += 1
        ended["cancelled"] += turn.status == TurnStatus.CANCELLED
        ended["failed"] += turn.status in {TurnStatus.FAILED, TurnStatus.INTERRUPTED}
        ended["prompt_tokens"] += turn.prompt_tokens
        ended["completion_tokens"] += turn.completion_tokens
    sums = (func.sum(getattr(Usage, name)).label(name) for name in names)
    query = select(Usage.tenant_id, Usage.key_id, *sums).group_by(Usage.tenant_id, Usage.key_id)
    used = {
        (row.tenant_id, row.key_id): Counter({name: int(getattr(row, name)) for name in names})
        for row in await connection.execute(query)
    }
    assert used == dict(logged)


async def _check_limits(connection: AsyncConnection, ledger: Ledger) -> None:
    """What each limit has counted in its minute, day and month is what the log has, to the token."""
    for limit in (await connection.execute(select(Limit.__table__))).all():
        ours = [turn for turn in ledger.turns.values() if limit.subject in {turn.tenant_id, turn.key_id}]
        assert limit.running == 0, limit
        minute = _charged(ours, "limit_minute", limit.minute)
        assert limit.minute_requests == len(minute), limit
        assert limit.minute_tokens == _tokens(minute), limit
        assert limit.day_tokens == _tokens(_charged(ours, "limit_day", limit.day)), limit
        assert limit.month_tokens == _tokens(_charged(ours, "limit_month", limit.month)), limit


def _charged(turns: Sequence[Row[Any]], window: str, number: int) -> list[Row[Any]]:
    def charged_at(turn: Row[Any]) -> datetime:
        assert isinstance(turn.reserved_at, datetime)
        return turn.reserved_at

    return [turn for turn in turns if windows(charged_at(turn))[window] == number]


def _tokens(turns: Sequence[Row[Any]]) -> int:
    return sum(turn.prompt_tokens + turn.completion_tokens for turn in turns)


async def verified(url: str) -> None:
    """The operator's own command finds nothing either."""
    engine = create_engine(url, pool_size=2)
    dialect = engine.dialect.name
    database = Database(engine)
    try:
        for tenant in await TenantService(database).all():
            assert [one async for one in verify(database, dialect, tenant) if not one.is_note] == []
    finally:
        await database.close()
