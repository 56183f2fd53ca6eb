"""What the model says, as the items of a response and as the events that tell of them."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from app.controller.response_items import wire_id
from schemas.response_schema import OutputCall, OutputItem, OutputMessage, OutputText, TextLogprob, TopTextLogprob
from services.answer_delta import AnswerDelta, CallDelta, TextDelta, TokenChance
from services.said_item import answer_item_id
from services.turn_end import TurnEnd

Event = dict[str, Any]
TEXT_DELTA = "response.output_text.delta"


class ResponseOutput:
    """Reads the deltas of one answer: its text is one message, open until the end, and each call an item of its own.

    A text's event takes as many sequence numbers as the text has characters, and any other takes one. So an event has
    the same number whoever listens, however the text was cut on its way.

    Attributes:
        items: as far as they have come.
        number: the next event's.
    """

    def __init__(self, turn_id: str) -> None:
        self.items: list[OutputItem] = []
        self.number = 0
        self._turn_id = turn_id
        # The message's place among the items, once there is one.
        self._message: int | None = None
        self._said: list[str] = []
        self._chances: list[TokenChance] = []

    def push(self, delta: AnswerDelta) -> Iterator[Event]:
        """The events that a delta makes."""
        return self._call(delta) if isinstance(delta, CallDelta) else self._text(delta)

    def end(self, *, whole: bool) -> Iterator[Event]:
        """The events that end the message; `whole` says whether the model has ended it itself."""
        if not self.items:
            yield from self._begin()
        if self._message is None:
            return
        # What comes before a call had come to its end.
        cut = not whole and len(self.items) == 1
        text, logprobs = "".join(self._said), chances_of(self._chances)
        part = OutputText(text=text, logprobs=logprobs)
        message = OutputMessage(
            id=self.items[self._message].id, status="incomplete" if cut else "completed", content=[part]
        )
        self.items[self._message] = message
        dumped = [one.model_dump() for one in logprobs]
        yield self._of_part("response.output_text.done", text=text, logprobs=dumped)
        yield self._of_part("response.content_part.done", part=part.model_dump())
        yield self._of_item("response.output_item.done", self._message, item=message.model_dump())

    def event(self, kind: str, *, takes: int = 1, **fields: Any) -> Event:
        """An event with the next number, which is its last if it takes several."""
        self.number += takes
        return {"type": kind, "sequence_number": self.number - 1, **fields}

    def _text(self, delta: TextDelta) -> Iterator[Event]:
        if self._message is None:
            yield from self._begin()
        self._said.append(delta.text)
        self._chances += delta.chances
        takes, logprobs = max(1, len(delta.text)), [one.model_dump() for one in chances_of(delta.chances)]
        yield self._of_part(TEXT_DELTA, takes=takes, delta=delta.text, logprobs=logprobs)

    def _begin(self) -> Iterator[Event]:
        self._message = len(self.items)
        message = OutputMessage(id=self._id("message", 0), status="in_progress", content=[])
        self.items.append(message)
        yield self._of_item("response.output_item.added", self._message, item=message.model_dump())
        yield self._of_part("response.content_part.added", part=OutputText(text="").model_dump())

    def _call(self, delta: CallDelta) -> Iterator[Event]:
        at, arguments = len(self.items), delta.call.arguments
        call = OutputCall(
            id=self._id("function_call", delta.number + 1),
            status="completed",
            call_id=delta.id,
            name=delta.call.name,
            arguments=arguments,
        )
        self.items.append(call)
        begun = call.model_dump() | {"status": "in_progress", "arguments": ""}
        whole: Event = {"item_id": call.id, "name": call.name, "arguments": arguments}
        yield self._of_item("response.output_item.added", at, item=begun)
        yield self._of_item("response.function_call_arguments.delta", at, item_id=call.id, delta=arguments)
        yield self._of_item("response.function_call_arguments.done", at, **whole)
        yield self._of_item("response.output_item.done", at, item=call.model_dump())

    def _of_item(self, kind: str, at: int, **fields: Any) -> Event:
        return self.event(kind, output_index=at, **fields)

    def _of_part(self, kind: str, *, takes: int = 1, **fields: Any) -> Event:
        at = self._message or 0
        return self.event(kind, takes=takes, item_id=self.items[at].id, output_index=at, content_index=0, **fields)

    def _id(self, kind: str, number: int) -> str:
        return wire_id(kind, answer_item_id(self._turn_id, 0, number))


def output_of(turn_id: str, parts: Sequence[AnswerDelta], end: TurnEnd) -> list[OutputItem]:
    """The items of an answer that has ended well: what its events put together."""
    output = ResponseOutput(turn_id)
    for part in parts:
        deque(output.push(part), maxlen=0)
    deque(output.end(whole=end.finish_reason != "length"), maxlen=0)
    return output.items


def chances_of(chances: Sequence[TokenChance]) -> list[TextLogprob]:
    """The log-probabilities of these tokens."""
    return [
        TextLogprob(**_chance(chance), top_logprobs=[TopTextLogprob(**_chance(other)) for other in chance.alternatives])
        for chance in chances
    ]


def _chance(chance: TokenChance) -> dict[str, Any]:
    return {"token": chance.token, "bytes": list(chance.bytes), "logprob": chance.logprob}
