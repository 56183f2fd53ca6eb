"""A stream that is cut anywhere, and read on from the id of its last event, says the same."""

import random

from app.controller.chat_events import ChatEvents
from services.answer_delta import TextDelta
from services.live_turn import LiveTurn
from tests.event_stream import Event, events, seen_all, text
from tests.turns import a_live_turn, an_end

_CHARACTERS = ["我", "们", "，", "a", " ", "\n", "é", "👩‍👩‍👧", "🇨🇳", "𠮷", "👍🏽", "\u2028", '"', "\\"]


class _Speaker:
    """Says a random text in random pieces, a few whenever it is asked to go on, and ends."""

    def __init__(self, chance: random.Random) -> None:
        self.whole = "".join(chance.choices(_CHARACTERS, k=chance.randrange(60)))
        # Anywhere between code points, even inside of what people take for one character.
        cuts = sorted(chance.choices(range(len(self.whole) + 1), k=chance.randrange(20)))
        self._pieces = [self.whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(self.whole)], strict=True)]
        self._chance = chance
        self.turn: LiveTurn = a_live_turn(patience=1.0, resumable=True)

    def go_on(self) -> None:
        for _ in range(self._chance.randrange(1, 4)):
            if self._pieces:
                self.turn.append([TextDelta(piece) for piece in [self._pieces.pop(0)] if piece])
            else:
                self.turn.end(an_end())


async def _hear(chance: random.Random, speaker: _Speaker, last: str | None) -> list[Event]:
    """What comes over one connection, which is cut between two events or in the middle of one."""
    offset = int(last or 0)
    encode = ChatEvents(speaker.turn, offset)
    received = b""
    listening = speaker.turn.events(idle=0, offset=offset)
    for _ in range(chance.randrange(1, 8)):
        speaker.go_on()
        received += encode(await anext(listening))
        if b"-end" in received:
            break
    await listening.aclose()
    cut = chance.choice([len(received), chance.randrange(len(received) + 1)])
    return events(received[:cut].decode(errors="ignore"))


async def test_wherever_a_stream_is_cut_the_rest_follows_what_was_heard() -> None:
    cuts = 0
    for seed in range(300):
        chance = random.Random(seed)
        speaker = _Speaker(chance)
        heard: list[Event] = []
        while not seen_all(heard):
            heard += await _hear(chance, speaker, heard[-1].id if heard else None)
            cuts += 1
        assert text(heard) == speaker.whole, seed
        assert [event.id for event in heard[:-1]] == [str(len(text(heard[: at + 1]))) for at in range(len(heard) - 1)]
    assert cuts > 500 + 300
