"""Who listens to a turn hears all of it once, in order, however the news reaches it."""

import asyncio
import random

import pytest

from services.answer_delta import TextDelta
from services.live_turn import LiveTurn
from services.turn_end import TurnEnd, TurnEvent
from services.turn_listener import TurnListener
from tests.turns import a_live_turn, an_end


async def test_news_is_taken_in_one_piece_without_waking_who_waits() -> None:
    turn, taken = a_live_turn(), list[TurnEvent]()
    with turn.listen() as listener:
        listener.taking = lambda: _took(turn, listener, taken)
        waiting = asyncio.create_task(listener.news())
        await asyncio.sleep(0)
        for text in ("a", "b", "c"):
            turn.append([TextDelta(text)])
        await _rounds(3)
        assert taken == [TextDelta("abc")]
        assert not waiting.done()
        listener.taking = lambda: False
        turn.append([TextDelta("d")])
        assert await waiting
        assert listener.take() == [TextDelta("d")]


async def test_what_taking_raises_is_raised_where_somebody_waits() -> None:
    turn = a_live_turn()

    def broken() -> bool:
        raise ValueError("cannot be written")

    with turn.listen() as listener:
        listener.taking = broken
        waiting = asyncio.create_task(listener.news())
        await asyncio.sleep(0)
        turn.append([TextDelta("a")])
        with pytest.raises(ValueError, match="cannot be written"):
            await waiting


async def test_nothing_is_taken_for_one_who_has_left() -> None:
    turn, taken = a_live_turn(patience=1.0), list[TurnEvent]()
    with turn.listen() as listener:
        listener.taking = lambda: _took(turn, listener, taken)
        waiting = asyncio.create_task(listener.news())
        await asyncio.sleep(0)
        turn.append([TextDelta("a")])
        waiting.cancel()
        await asyncio.wait({waiting})
    turn.append([TextDelta("b")])
    await _rounds(3)
    assert taken == []


async def test_whoever_takes_and_whenever_all_is_heard_once_and_in_order() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        turn, heard = a_live_turn(), list[TurnEvent]()
        listening = asyncio.create_task(_hear(turn, heard, chance))
        said = [str(number) for number in range(chance.randrange(30))]
        for text in said:
            turn.append([TextDelta(f"{text} ")])
            await _rounds(chance.randrange(3))
        turn.end(an_end())
        await listening
        *texts, end = heard
        assert "".join(each.text for each in texts if isinstance(each, TextDelta)).split() == said, seed
        assert isinstance(end, TurnEnd)


async def _hear(turn: LiveTurn, heard: list[TurnEvent], chance: random.Random) -> None:
    """Now and then only the task can go on, and takes its time."""
    with turn.listen() as listener:
        listener.taking = lambda: chance.random() < 0.7 and _took(turn, listener, heard)
        while True:
            events = listener.take()
            for event in events:
                await _rounds(chance.randrange(3))
                heard.append(event)
                if isinstance(event, TurnEnd):
                    return
            if not events:
                await listener.news()


def _took(turn: LiveTurn, listener: TurnListener, heard: list[TurnEvent]) -> bool:
    if turn.has_ended:
        return False
    heard.extend(listener.take())
    return True


async def _rounds(count: int) -> None:
    """Let the loop go round so often."""
    for _ in range(count):
        await asyncio.sleep(0)
