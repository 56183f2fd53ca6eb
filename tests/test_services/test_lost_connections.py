"""A turn whose connection to PostgreSQL is cut, wherever that is, or does not answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from app.common.errors import DatabaseUnavailable
from database.engine import create_engine
from database.models import Item, Lease, Turn, TurnStatus, TurnText, Usage
from database.session import Database
from services.choice import Choice
from services.inference.codec import Codecs
from services.inference.engine import Delta, End, EngineLimits, Event, GenerationRequest, Health
from services.inference.tool import NO_TOOLS
from services.limit_service import Limits, LimitService
from services.principal import Principal
from services.said_item import SaidItem
from services.settlement_file import SettlementFile
from services.settlement_service import SettlementService
from services.turn_log import TurnLog
from services.turn_runner import TurnPlan, TurnRunner
from tests.conftest import make_tenant
from tests.limited import limit_row
from tests.postgres_proxy import Mode, PostgresProxy, proxied
from tests.rows import TESTER, a_conversation, store
from tests.turns import a_live_turn, an_opening

_LEASE = timedelta(seconds=30)
# How a turn may be written: each takes other statements, in one transaction or in several round trips.
SHAPES: dict[str, Callable[[], dict[str, Any]]] = {
    "a new conversation": dict,
    "a conversation that goes on": lambda: {"seen_length": 0},
    "a history, and more items than one statement takes": lambda: {"history": _said(2), "items": _said(6)},
    "a background turn": lambda: {"resumable": True},
}


def _said(count: int) -> list[SaidItem]:
    return [SaidItem(role="user", text=f"{number}") for number in range(count)]


class SpeakingEngine:
    """Says `hello` to everybody, while it may."""

    limits = EngineLimits(model="fake", context_window=100, vocabulary=300, tokenizer="")

    def __init__(self) -> None:
        self.may_speak = asyncio.Event()
        self.may_speak.set()
        self._speaking: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def admit(self, _request: GenerationRequest) -> AsyncIterator["SpeakingEngine"]:
        yield self

    async def health(self) -> Health:
        return Health(ready=True, detail="")

    def start(self, hear: Callable[[Event], None]) -> None:
        self._speaking.add(asyncio.create_task(self._speak(hear)))

    async def _speak(self, hear: Callable[[Event], None]) -> None:
        await self.may_speak.wait()
        hear(Delta("", list(b"hello")))
        hear(End("", "stop", 5, 0, 5))


@dataclass
class Process:
    """What runs turns, behind a proxy; `direct` is the same database without one."""

    direct: Database
    proxy: PostgresProxy
    caller: Principal
    database: Database
    settlements: SettlementService
    engine: SpeakingEngine
    runner: TurnRunner

    async def plan(self, *, resumable: bool = False, **columns: Any) -> TurnPlan:
        conversation = a_conversation()
        if "seen_length" in columns:
            await store(self.direct, self.caller, conversation)
        turn = a_live_turn(conversation.id, resumable=resumable)
        opening = an_opening(self.caller, **columns)
        codec = await Codecs().of(SpeakingEngine.limits)
        request = GenerationRequest(id=turn.id, tenant="t", prompt_ids=[1] * 5, max_tokens=10)
        return TurnPlan(turn=turn, opening=opening, request=request, choices=[Choice(codec.reader(NO_TOOLS))])

    async def warm_up(self) -> None:
        """Let there be a connection of the tenant's, which has not run a turn's statements yet."""
        async with self.database.begin_prepared(self.caller.tenant_id):
            pass


@pytest.fixture
async def process(postgres_url: str, postgres_directory: str, tmp_path: Path) -> AsyncIterator[Process]:
    direct, proxy = Database(create_engine(postgres_url)), PostgresProxy(postgres_directory)
    caller = await make_tenant(direct, "ours")
    await LimitService(direct).set(TESTER, caller.tenant_id, Limits(turns_at_once=100_000, tokens_per_month=10**9))
    async with proxy.listening() as port:
        url = proxied(postgres_url, port)
        database = Database(create_engine(url, pool_size=2, timeout=1))
        turn_log = TurnLog(database, owner="0" * 32, lease=_LEASE)
        file = SettlementFile(tmp_path / "unsettled.journal")
        settlements = SettlementService(turn_log, file, patience=60)
        engine = SpeakingEngine()
        runner = TurnRunner(engine, turn_log, settlements)
        yield Process(direct, proxy, caller, database, settlements, engine, runner)
        await database.close()
        file.close()
    await direct.close()


async def _run(process: Process, plan: TurnPlan) -> bool:
    """Run a turn to its end; whether it was accepted."""
    try:
        turn = await process.runner.start(plan)
        assert (await turn.outcome()).status == TurnStatus.COMPLETED
    except DatabaseUnavailable:
        # It may be there all the same, and is taken back then.
        await process.runner.drain()
        return False
    return True


async def _assert_each_has_one_end(process: Process, accepted: set[str], refused: set[str]) -> None:
    async with process.direct.begin(process.caller.tenant_id) as session:
        turns = {turn.id: turn for turn in await session.scalars(select(Turn))}
        texts = {text.turn_id: text.response for text in await session.scalars(select(TurnText))}
        usage = list(await session.scalars(select(Usage)))
        answers = list(await session.scalars(select(Item.turn_id).where(Item.answer.is_not(None))))
        crowded = select(Item.conversation_id).group_by(Item.conversation_id, Item.position).having(func.count() > 1)
        assert list(await session.scalars(crowded)) == []
    async with process.direct.begin_global() as session:
        assert list(await session.scalars(select(Lease))) == []
    assert accepted <= turns.keys() <= accepted | refused
    for turn in turns.values():
        if turn.id in accepted:
            assert (turn.status, texts[turn.id], turn.completion_tokens) == (TurnStatus.COMPLETED, "hello", 5)
        else:
            told = (turn.status, turn.error, texts[turn.id], turn.prompt_tokens, turn.completion_tokens)
            assert told == (TurnStatus.FAILED, "database_unavailable", "", 0, 0)
    assert (len(answers), set(answers)) == (len(accepted), accepted)
    assert sum(day.requests for day in usage) == len(turns)
    assert sum(day.failed for day in usage) == len(turns.keys() & refused)
    assert sum(day.completion_tokens for day in usage) == 5 * len(accepted)
    row = await limit_row(process.direct, process.caller)
    assert (row.running, row.month_tokens) == (0, 10 * len(accepted))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
async def test_wherever_its_connection_is_cut_a_turn_ends_once_and_nobody_is_told_what_is_not_so(
    process: Process, shape: Callable[[], dict[str, Any]]
) -> None:
    accepted: set[str] = set()
    refused: set[str] = set()
    for messages in range(500):
        await process.warm_up()
        plan = await process.plan(**shape())
        process.proxy.cut_after(messages)
        (accepted if await _run(process, plan) else refused).add(plan.turn.id)
        if not process.proxy.was_cut:
            break
    # A turn is at least two statements, of at least three messages each way.
    assert messages > 12
    assert len(accepted) > 1
    assert len(refused) > 6
    assert process.settlements.depth == 0
    await _assert_each_has_one_end(process, accepted, refused)


async def test_many_turns_at_once_whose_connections_are_cut_end_once_each(process: Process) -> None:
    accepted: set[str] = set()
    refused: set[str] = set()
    for messages in (2, 7, 11, 16, 23):
        await process.warm_up()
        plans = [await process.plan() for _ in range(8)]
        process.proxy.cut_after(messages)
        outcomes = await asyncio.gather(*(_run(process, plan) for plan in plans))
        for plan, was_accepted in zip(plans, outcomes, strict=True):
            (accepted if was_accepted else refused).add(plan.turn.id)
        assert process.proxy.was_cut
    await _assert_each_has_one_end(process, accepted, refused)


@pytest.mark.parametrize("mode", ["refuse", "swallow"])
async def test_while_the_database_is_away_ends_wait_on_the_disk_and_turns_are_refused_and_then_all_goes_on(
    process: Process, mode: Mode
) -> None:
    process.settlements.patience = 0.1
    plans = [await process.plan() for _ in range(3)]
    process.engine.may_speak.clear()
    turns = [await process.runner.start(plan) for plan in plans]
    process.proxy.turn(mode)
    if mode == "refuse":
        process.proxy.cut()
    process.engine.may_speak.set()
    ends = await asyncio.gather(*(turn.outcome() for turn in turns), return_exceptions=True)
    assert [getattr(end, "code", None) for end in ends] == ["database_unavailable"] * 3
    assert [turn.text for turn in turns] == ["hello"] * 3
    late = await process.plan()
    assert not await _run(process, late)
    assert process.settlements.depth >= 3
    process.proxy.turn("pass")
    process.settlements.patience = 60
    await process.settlements.replay()
    assert (process.settlements.depth, process.settlements.lost) == (0, 0)
    after = await process.plan()
    assert await _run(process, after)
    await _assert_each_has_one_end(process, {plan.turn.id for plan in (*plans, after)}, {late.turn.id})
