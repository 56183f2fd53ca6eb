"""The pieces of an answer, and what they are put together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from msgspec import Struct, field

from services.inference.message import ToolCall


@dataclass(frozen=True, slots=True)
class TokenChance:
    """How likely a token was.

    Attributes:
        token: what stands for it; of a part of a character, U+FFFD.
        bytes: exactly what it stands for; empty for a special token.
        logprob: natural logarithm of its probability; None where it is not known.
        alternatives: the likeliest tokens in its place, likeliest first.
    """

    token: str
    bytes: bytes
    logprob: float | None
    alternatives: tuple["TokenChance", ...] = ()


class TextDelta(Struct, frozen=True):
    """New text only, in whole characters; without text and chances, a sign of life.

    Attributes:
        index: which of the turn's answers, from 0.
        chances: of the tokens that wrote it, if they were asked for.
    """

    text: str
    index: int = 0
    chances: tuple[TokenChance, ...] = ()


class CallDelta(Struct, frozen=True, kw_only=True):
    """A whole tool call.

    Attributes:
        id: by which its result will be sent back.
        number: which of the answer's calls, from 0.
        index: which of the turn's answers, from 0.
    """

    id: str
    call: ToolCall
    number: int
    index: int = 0


AnswerDelta = TextDelta | CallDelta


class Answer(Struct):
    """One of a turn's answers, as far as it has come."""

    text: str = ""
    calls: list[CallDelta] = field(default_factory=list)
    chances: list[TokenChance] = field(default_factory=list)

    def written(self) -> str:
        """All of it as text."""
        return written(self.text, (delta.call for delta in self.calls))


def written(text: str, calls: Iterable[ToolCall]) -> str:
    """A text, and a line for each call: for people to read."""
    lines = [text] if text else []
    return "\n".join([*lines, *(f"{call.name}({call.arguments})" for call in calls)])


def fold(deltas: Iterable[AnswerDelta], count: int) -> list[Answer]:
    """The answers that these deltas make.

    Args:
        deltas: of all answers, as they came.
        count: how many answers there are.
    """
    answers = [Answer() for _ in range(count)]
    texts: list[list[str]] = [[] for _ in range(count)]
    for delta in deltas:
        if isinstance(delta, CallDelta):
            answers[delta.index].calls.append(delta)
        else:
            texts[delta.index].append(delta.text)
            answers[delta.index].chances += delta.chances
    for answer, pieces in zip(answers, texts, strict=True):
        answer.text = "".join(pieces)
    return answers


def merged(deltas: Sequence[AnswerDelta]) -> Sequence[AnswerDelta]:
    """The same in as few pieces as it takes, one answer after another."""
    if len(deltas) < 2:
        return deltas
    found: list[AnswerDelta] = []
    for (index, is_text), run in groupby(
        sorted(deltas, key=attrgetter("index")), key=lambda delta: (delta.index, isinstance(delta, TextDelta))
    ):
        if is_text:
            texts = [delta for delta in run if isinstance(delta, TextDelta)]
            chances = tuple(chance for delta in texts for chance in delta.chances)
            found.append(TextDelta("".join(delta.text for delta in texts), index, chances))
        else:
            found += run
    return found
