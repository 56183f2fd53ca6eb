"""What a turn has used, however it ends."""

from collections.abc import Callable, Sequence

import pytest

from database.models import TurnStatus
from services.choice import Choice
from services.inference.codec import Codecs
from services.inference.engine import Delta, End, Event, Failed
from services.inference.tool import NO_TOOLS
from services.turn_reading import TurnReading
from tests.test_services.test_turn_runner import LIMITS, plan


class _Generation:
    """Says all of it at once."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events

    def start(self, hear: Callable[[Event], None]) -> None:
        for event in self._events:
            hear(event)


@pytest.mark.parametrize("status", [TurnStatus.COMPLETED, TurnStatus.FAILED, TurnStatus.CANCELLED])
async def test_tokens_after_an_answers_stop_string_do_not_count(status: TurnStatus) -> None:
    turn, codec = (await plan()).turn, await Codecs().of(LIMITS)
    choices = [Choice(codec.reader(NO_TOOLS), index=index, stops=("!",)) for index in range(2)]
    # The engine goes on with the first answer, for which nobody waits any more.
    events: list[Event] = [Delta("", list(b"ab!")), Delta("", list(b"x"), 1), Delta("", list(b"y" * 50))]
    if status == TurnStatus.COMPLETED:
        events.append(End("", "stop", 3, 0, 1, 1))
    elif status == TurnStatus.FAILED:
        events.append(Failed("", "engine_lost", "Gone.", retryable=True))
    else:
        turn.unheard.set()
    end = await TurnReading(turn, choices).end(_Generation(events))
    assert (end.status, end.usage.completion_tokens) == (status, 4)


@pytest.mark.parametrize(
    ("kind", "prompt_tokens"),
    [("deadline", 0), ("invalid_request", 0), ("context_length_exceeded", 0), ("engine_lost", 3)],
)
async def test_what_the_engine_never_began_has_used_nothing(kind: str, prompt_tokens: int) -> None:
    one = await plan()
    failed = Failed("", kind, "No.", retryable=True)
    end = await TurnReading(one.turn, one.choices).end(_Generation([failed]))
    assert (end.status, end.usage.prompt_tokens) == (TurnStatus.FAILED, prompt_tokens)
