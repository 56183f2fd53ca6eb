"""A turn's events as the typed events of `/v1/responses`."""

from collections.abc import Iterable, Iterator

import msgspec

from app.controller.response_answer import ended
from app.controller.response_output import TEXT_DELTA, Event, ResponseOutput
from app.controller.sse import KEEP_ALIVE
from database.models import TurnStatus
from schemas.response_schema import ResponseObject
from services.answer_delta import TextDelta
from services.turn_end import TurnEnd, TurnEvent

_encode = msgspec.json.encode


class ResponseEvents:
    """Writes one stream: what has begun, what the model says, and how it ended, once the turn is committed."""

    def __init__(self, turn_id: str, response: ResponseObject, *, after: int = -1) -> None:
        """`response`: before anything was said; `after`: the number of the last event that has been seen."""
        self._response = response
        self._output = ResponseOutput(turn_id)
        self._after = after

    def begin(self) -> bytes:
        """The events that come first."""
        response = self._response.model_dump(by_alias=True)
        kinds = ("response.created", "response.in_progress")
        return self._written(self._output.event(kind, response=response) for kind in kinds)

    def __call__(self, event: TurnEvent) -> bytes:
        """The bytes of an event: one or several."""
        if isinstance(event, TurnEnd):
            return self._written(self._end(event))
        if isinstance(event, TextDelta) and not event.text and not event.chances:
            return KEEP_ALIVE
        return self._written(self._output.push(event)) or KEEP_ALIVE

    def _end(self, end: TurnEnd) -> Iterator[Event]:
        error = end.error
        if error is not None and end.status != TurnStatus.FAILED:
            # Of a response that was cut off on the way it is not known what it is.
            yield self._output.event("error", code=error.code, message=error.message, param=error.param)
            return
        yield from self._output.end(whole=error is None and end.finish_reason != "length")
        response = ended(self._response, end, self._output.items)
        yield self._output.event(f"response.{response.status}", response=response.model_dump(by_alias=True))

    def _written(self, events: Iterable[Event]) -> bytes:
        unseen = (event for event in map(self._unseen, events) if event is not None)
        return b"".join(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode(event)) for event in unseen)

    def _unseen(self, event: Event) -> Event | None:
        """The event, or what of its text has not been seen; None if all has."""
        number = event["sequence_number"]
        if number <= self._after:
            return None
        if event["type"] != TEXT_DELTA or number - len(event["delta"]) >= self._after:
            return event
        return event | {"delta": event["delta"][self._after - number :]}
