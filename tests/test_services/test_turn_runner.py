"""Turns from their first row to their last event, with every accident between."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from app.common.errors import AppError, Conflict, RateLimited, Unavailable
from database.clock import now
from database.identifier import new_id
from database.models import TurnStatus
from services.answer_delta import TextDelta
from services.choice import Choice
from services.inference.codec import Codecs
from services.inference.engine import Delta, End, EngineLimits, Event, Failed, GenerationRequest, Health
from services.inference.engine_refusal import CeilingReached, EngineOverloaded
from services.inference.tool import NO_TOOLS
from services.live_turn import LiveTurn
from services.principal import Principal
from services.settlement import Settlement
from services.settlement_file import SettlementFile
from services.settlement_service import SettlementService
from services.turn_log import TurnLog
from services.turn_opening import TurnOpening
from services.turn_runner import TurnPlan, TurnRunner

LIMITS = EngineLimits(model="fake", context_window=100, vocabulary=300, tokenizer="")
USAGE_END = End("", "stop", 3, 0, 3)


class FakeEngine:
    """Plays these events; remembers whether its place was left."""

    limits = LIMITS

    def __init__(self, *events: Event | EngineOverloaded | asyncio.Event, endless: bool = False) -> None:
        self._events = events
        self._endless = endless
        self._playing: asyncio.Task[None] | None = None
        self.left = 0

    @asynccontextmanager
    async def admit(self, _request: GenerationRequest) -> AsyncIterator["FakeEngine"]:
        if self._events and isinstance(self._events[0], EngineOverloaded):
            raise self._events[0]
        try:
            yield self
        finally:
            self.left += 1
            if self._playing is not None:
                self._playing.cancel()

    async def health(self) -> Health:
        return Health(ready=True, detail="")

    def start(self, hear: Callable[[Event], None]) -> None:
        self._playing = asyncio.create_task(self._play(hear))

    async def _play(self, hear: Callable[[Event], None]) -> None:
        for event in self._events:
            if isinstance(event, asyncio.Event):
                await event.wait()
            elif not isinstance(event, EngineOverloaded):
                hear(event)
        if self._endless:
            await asyncio.Event().wait()


class FakeLog(TurnLog):
    """Remembers the order of what is written, and fails on command."""

    def __init__(self, *, open_error: Exception | None = None, settle_error: Exception | None = None) -> None:
        self.written: list[str] = []
        self.ends: list[Settlement] = []
        self._open_error, self._settle_error = open_error, settle_error

    async def open(self, turn: LiveTurn, opening: TurnOpening) -> None:
        if self._open_error:
            raise self._open_error
        self.written.append("T1")

    async def settle(self, end: Settlement) -> None:
        if self._settle_error:
            raise self._settle_error
        self.written.append("T2")
        self.ends.append(end)


Running = Callable[[FakeEngine, FakeLog], TurnRunner]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """Makes a runner that tries once, and keeps what it cannot settle in a file."""
    file = SettlementFile(tmp_path / "unsettled.journal")
    yield lambda engine, log: TurnRunner(engine, log, SettlementService(log, file, patience=0.0))
    file.close()


async def plan() -> TurnPlan:
    at = now()
    codec = await Codecs().of(LIMITS)
    turn = LiveTurn(id=new_id(at), conversation_id=new_id(at), created_at=at, prompt_tokens=3)
    opening = TurnOpening(
        principal=Principal(tenant_id="t", key_id="k", scopes=frozenset()),
        prompt="hi",
        history=[],
        items=[],
        seen_length=None,
        user=None,
        endpoint="/test",
        model="fake",
        parameters={},
        max_tokens=1000,
    )
    request = GenerationRequest(id=turn.id, tenant="t", prompt_ids=[1, 2, 3], max_tokens=10)
    return TurnPlan(turn=turn, opening=opening, request=request, choices=[Choice(codec.reader(NO_TOOLS))])


def tokens(text: str) -> Delta:
    return Delta("", list(text.encode()))


async def test_the_row_is_opened_before_the_first_byte_and_settled_before_the_last_event(running: Running) -> None:
    log = FakeLog()
    turn = await running(FakeEngine(tokens("he"), tokens("llo"), USAGE_END), log).start(await plan())
    assert log.written == ["T1"]
    written_at = [(event, list(log.written)) async for event in turn.events()]
    assert "".join(event.text for event, _ in written_at if isinstance(event, TextDelta)) == "hello"
    assert written_at[-1][1] == ["T1", "T2"]
    assert log.ends[0].status == TurnStatus.COMPLETED


@pytest.mark.parametrize("error", [Conflict("busy"), Unavailable("no database"), RuntimeError("a defect")])
async def test_a_turn_that_cannot_be_opened_gives_its_place_back_and_raises(running: Running, error: Exception) -> None:
    engine, log = FakeEngine(USAGE_END), FakeLog(open_error=error)
    runner = running(engine, log)
    with pytest.raises(type(error)):
        await runner.start(await plan())
    assert engine.left == 1
    assert log.written == []
    assert runner.running == []


async def test_a_full_engine_is_refused_before_a_row_is_written(running: Running) -> None:
    log = FakeLog()
    with pytest.raises(Unavailable) as refusal:
        await running(FakeEngine(EngineOverloaded("full", 2.5)), log).start(await plan())
    assert (refusal.value.code, refusal.value.retry_after) == ("overloaded", 2.5)
    assert log.written == []


async def test_a_tenant_at_its_ceiling_is_limited_before_a_row_is_written(running: Running) -> None:
    log = FakeLog()
    with pytest.raises(RateLimited) as refusal:
        await running(FakeEngine(CeilingReached("yours", 2.5)), log).start(await plan())
    assert (refusal.value.code, refusal.value.retry_after) == ("rate_limit_exceeded", 2.5)
    assert log.written == []


async def test_what_was_cached_is_known_from_the_first_token_wherever_the_answer_ends(running: Running) -> None:
    log, first = FakeLog(), Delta("", list(b"he"), cached_tokens=2)
    codec = await Codecs().of(LIMITS)
    stopped = replace(await plan(), choices=[Choice(codec.reader(NO_TOOLS), stops=("l",))])
    await (await running(FakeEngine(first, tokens("llo"), endless=True), log).start(stopped)).outcome()
    turn = await running(FakeEngine(first, endless=True), log).start(await plan())
    async for _ in turn.events():
        break
    turn.unheard.set()
    with pytest.raises(Unavailable):
        await turn.outcome()
    assert [(end.status, end.usage.cached_tokens) for end in log.ends] == [
        (TurnStatus.COMPLETED, 2),
        (TurnStatus.CANCELLED, 2),
    ]


async def test_a_turn_that_could_not_be_stored_never_ends_well(running: Running) -> None:
    for error in (Unavailable("no database"), RuntimeError("a defect")):
        log = FakeLog(settle_error=error)
        turn = await running(FakeEngine(tokens("hello"), USAGE_END), log).start(await plan())
        with pytest.raises(AppError):
            await turn.outcome()


async def test_when_the_last_listener_leaves_the_turn_is_cancelled_with_its_text(running: Running) -> None:
    engine, log = FakeEngine(tokens("hel"), endless=True), FakeLog()
    runner = running(engine, log)
    turn = await runner.start(await plan())
    listeners = [turn.events(), turn.events()]
    assert [await anext(listener) for listener in listeners] == [TextDelta("hel")] * 2
    await listeners[0].aclose()
    assert not turn.unheard.is_set()
    await listeners[1].aclose()
    await runner.close()
    assert engine.left == 1
    assert log.ends[0].status == TurnStatus.CANCELLED
    assert log.ends[0].usage.completion_tokens == 3
    assert turn.text == "hel"


async def test_a_starter_that_is_cancelled_leaves_no_turn_behind(running: Running) -> None:
    engine, log = FakeEngine(tokens("hel"), endless=True), FakeLog()
    runner = running(engine, log)
    starting = asyncio.create_task(runner.start(await plan()))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait({starting})
    await runner.close()
    assert runner.running == []
    assert log.written in ([], ["T1", "T2"])


async def test_a_failed_generation_and_a_defect_both_settle_as_failed(running: Running) -> None:
    failures: list[tuple[Event, str, float | None]] = [
        (Failed("", "engine_lost", "gone", retryable=True, retry_after=17), "engine_lost", 17),
        (Failed("", "deadline", "late", retryable=True), "deadline", 1),
        (Delta("", [1], index=1_000), "generation_failed", None),
    ]
    for failure, code, retry_after in failures:
        log = FakeLog()
        turn = await running(FakeEngine(tokens("hel"), failure), log).start(await plan())
        with pytest.raises(AppError) as raised:
            await turn.outcome()
        assert (raised.value.code, raised.value.retry_after) == (code, retry_after)
        assert log.ends[0].status == TurnStatus.FAILED
        assert turn.text == "hel"


async def test_a_place_that_cannot_be_left_ends_the_turn_all_the_same(running: Running) -> None:
    class BrokenEngine(FakeEngine):
        @asynccontextmanager
        async def admit(self, request: GenerationRequest) -> AsyncIterator[FakeEngine]:
            async with super().admit(request):
                yield self
            raise RuntimeError("the transport is closed")

    log = FakeLog()
    turn = await running(BrokenEngine(tokens("hello"), USAGE_END), log).start(await plan())
    assert (await turn.outcome()).status == TurnStatus.COMPLETED
    assert turn.text == "hello"
    assert log.written == ["T1", "T2"]


async def test_a_slow_listener_gets_merged_deltas_and_a_late_one_everything(running: Running) -> None:
    log, gate = FakeLog(), asyncio.Event()
    engine = FakeEngine(tokens("h"), gate, *map(tokens, "ello"), USAGE_END)
    turn = await running(engine, log).start(await plan())
    slow = turn.events()
    first = await anext(slow)
    gate.set()
    while not log.ends:
        await asyncio.sleep(0)
    rest = [event async for event in slow]
    assert first == TextDelta("h")
    assert rest[0] == TextDelta("ello")
    assert [event async for event in turn.events()] == [TextDelta("hello"), await turn.outcome()]


async def test_an_idle_stream_shows_that_it_lives(running: Running) -> None:
    runner = running(FakeEngine(endless=True), FakeLog())
    turn = await runner.start(await plan())
    assert await anext(turn.events(idle=0.01)) == TextDelta("")
    await runner.close()
