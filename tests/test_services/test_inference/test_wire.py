"""What the API's process and the engine's say to each other, however the connection cuts it."""

import random
from itertools import pairwise

import pytest

from services.inference.engine import Delta
from services.inference.wire import LARGEST_FRAME, Alive, Inbox, Loading, Refused, Step, ToClient, WireError, frame


def _said(chance: random.Random) -> list[ToClient]:
    kinds = (
        lambda: Loading(chance.random(), "读" * chance.randrange(200)),
        lambda: Alive(None),
        lambda: Refused("r", "x" * chance.randrange(100_000), 1.5),
        lambda: Step([Delta(str(number), [number] * chance.randrange(5)) for number in range(chance.randrange(300))]),
    )
    return [chance.choice(kinds)() for _ in range(chance.randrange(1, 20))]


def test_wherever_messages_are_cut_they_are_the_same() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        messages = _said(chance)
        sent = b"".join(map(frame, messages))
        size = chance.choice([1000, 65_536, len(sent)])
        places = sorted({0, len(sent), *(chance.randrange(len(sent)) for _ in range(len(sent) // size))})
        inbox = Inbox.of_client()
        heard = [message for begin, end in pairwise(places) for message in inbox.push(sent[begin:end])]
        assert heard == messages, seed


def test_a_message_comes_with_its_last_byte_and_not_before() -> None:
    inbox = Inbox.of_client()
    sent = frame(Loading(0.5, "weights"))
    for each in sent[:-1]:
        assert list(inbox.push(bytes([each]))) == []
    assert list(inbox.push(sent[-1:] + sent)) == [Loading(0.5, "weights")] * 2


@pytest.mark.parametrize(
    "junk", [(LARGEST_FRAME + 1).to_bytes(4, "big"), b"\x00\x00\x00\x01\xc0", b"\x00\x00\x00\x05hello"]
)
def test_what_is_no_message_is_an_error_after_those_that_are(junk: bytes) -> None:
    messages = Inbox.of_client().push(frame(Alive(None)) + junk)
    assert next(messages) == Alive(None)
    with pytest.raises(WireError):
        next(messages)
