"""A turn's events as the routes under `/chat` write them."""

from typing import Any

import msgspec

from app.common.handlers import error_envelope
from app.controller.sse import KEEP_ALIVE
from schemas.chat_schema import TokenUsage
from services.answer_delta import TextDelta
from services.live_turn import LiveTurn
from services.turn_end import TurnEnd, TurnEvent, Usage

# Follows the offset in the id of the last event: whoever names that has seen all there is.
SEEN_ALL = "-end"


class ChatEvents:
    """Writes one stream."""

    def __init__(self, turn: LiveTurn, offset: int | None = None) -> None:
        """`offset`: code points of the text that came before; None writes no ids."""
        self._turn = turn
        self._offset = offset

    def __call__(self, event: TurnEvent) -> bytes:
        """The bytes of an event."""
        if isinstance(event, TextDelta):
            return self._text(event.text) if event.text else KEEP_ALIVE
        assert isinstance(event, TurnEnd)  # noqa: S101 - these routes offer no tools, so that nothing is called
        last = b"" if self._offset is None else f"id: {self._offset}{SEEN_ALL}\n".encode()
        return last + chat_event(self._end(event))

    def _text(self, text: str) -> bytes:
        event = chat_event({"text": text, "message_id": self._turn.id})
        if self._offset is None:
            return event
        self._offset += len(text)
        return b"id: %d\n%b" % (self._offset, event)

    def _end(self, end: TurnEnd) -> dict[str, Any]:
        turn = self._turn
        if end.error is not None:
            return {**error_envelope(end.error).model_dump(), "message_id": turn.id, "status": end.status.value}
        return {
            "text": "",
            "message_id": turn.id,
            "conversation_id": turn.conversation_id,
            "finish_reason": end.finish_reason,
            "usage": token_usage(end.usage).model_dump(),
            "dropped_turns": turn.dropped_turns,
        }


def chat_event(body: dict[str, Any]) -> bytes:
    """An event without an id."""
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def token_usage(usage: Usage) -> TokenUsage:
    """What a turn has used."""
    return TokenUsage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )
