"""A turn's events as the typed events of `/v1/responses`."""

from collections.abc import Iterable, Iterator

import msgspec

from app.controller.response_answer import ended
from app.controller.response_output import Event, ResponseOutput
from app.controller.sse import KEEP_ALIVE
from database.models import TurnStatus
from schemas.response_schema import ResponseObject
from services.answer_delta import TextDelta
from services.live_turn import TurnEnd, TurnEvent

_encode = msgspec.json.encode


class ResponseEvents:
    """Writes one stream: what has begun, what the model says, and how it ended, once the turn is committed."""

    def __init__(self, turn_id: str, response: ResponseObject) -> None:
        """`response`: before anything was said."""
        self._response = response
        self._output = ResponseOutput(turn_id)

    def begin(self) -> bytes:
        """The events that come first."""
        response = self._response.model_dump(by_alias=True)
        kinds = ("response.created", "response.in_progress")
        return _written(self._output.event(kind, response=response) for kind in kinds)

    def __call__(self, event: TurnEvent) -> bytes:
        """The bytes of an event: one or several."""
        if isinstance(event, TurnEnd):
            return _written(self._end(event))
        if isinstance(event, TextDelta) and not event.text and not event.chances:
            return KEEP_ALIVE
        return _written(self._output.push(event))

    def _end(self, end: TurnEnd) -> Iterator[Event]:
        error = end.error
        if error is not None and end.status != TurnStatus.FAILED:
            # Of a response that was cut off on the way it is not known what it is.
            yield self._output.event("error", code=error.code, message=error.message, param=error.param)
            return
        yield from self._output.end(whole=error is None and end.finish_reason != "length")
        response = ended(self._response, end, self._output.items)
        yield self._output.event(f"response.{response.status}", response=response.model_dump(by_alias=True))


def _written(events: Iterable[Event]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode(event)) for event in events)
