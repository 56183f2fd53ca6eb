"""A turn's events as the chunks of `/v1/chat/completions`."""

from typing import Any

import msgspec

from app.common.handlers import error_envelope
from app.controller.completion_answer import call_entry, choice_logprobs, completion_id, completion_usage
from app.controller.sse import KEEP_ALIVE
from services.answer_delta import AnswerDelta, CallDelta, TextDelta
from services.live_turn import LiveTurn
from services.turn_end import TurnEnd, TurnEvent

_DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.encode


class CompletionChunks:
    """Writes one stream: each answer's role first, its finish reason last, once the turn is committed."""

    def __init__(self, turn: LiveTurn, model: str, *, include_usage: bool) -> None:
        """`include_usage`: one more chunk at the end says what was used, and all others that they do not."""
        created = int(turn.created_at.timestamp())
        head = {"id": completion_id(turn.id), "object": "chat.completion.chunk", "created": created, "model": model}
        self._head = b"data: " + _encode(head | {"system_fingerprint": None})[:-1] + b',"choices":['
        self._tail = (b'],"usage":null' if include_usage else b"]") + b"}\n\n"
        self._include_usage = include_usage
        self._begun: set[int] = set()

    def __call__(self, event: TurnEvent) -> bytes:
        """The bytes of an event: usually one chunk, sometimes several."""
        if isinstance(event, TurnEnd):
            return self._end(event)
        if isinstance(event, TextDelta) and not event.text and not event.chances:
            return KEEP_ALIVE
        role = self._role(event.index, speaks=isinstance(event, TextDelta))
        return role + self._delta(event)

    def _delta(self, delta: AnswerDelta) -> bytes:
        if isinstance(delta, CallDelta):
            call = {"index": delta.number, **call_entry(delta).model_dump()}
            return self._chunk(delta.index, {"tool_calls": [call]})
        if delta.chances:
            logprobs = choice_logprobs(delta.chances).model_dump()
            return self._chunk(delta.index, {"content": delta.text}, logprobs=logprobs)
        # Once a token: put together from what is written already.
        return b'%b{"index":%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null}%b' % (
            self._head,
            delta.index,
            _encode(delta.text),
            self._tail,
        )

    def _role(self, index: int, *, speaks: bool) -> bytes:
        if index in self._begun:
            return b""
        self._begun.add(index)
        return self._chunk(index, {"role": "assistant", "content": "" if speaks else None})

    def _chunk(self, index: int, delta: dict[str, Any], **fields: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **fields}
        return self._head + _encode(choice) + self._tail

    def _end(self, end: TurnEnd) -> bytes:
        if end.error is not None:
            # Without [DONE]: clients would take it for a good end.
            return b"data: " + _encode(error_envelope(end.error).model_dump()) + b"\n\n"
        chunks = []
        for index, reason in enumerate(end.finish_reasons):
            chunks += [self._role(index, speaks=True), self._chunk(index, {}, finish_reason=reason)]
        if self._include_usage:
            usage = _encode(completion_usage(end.usage).model_dump())
            chunks.append(self._head + b'],"usage":' + usage + b"}\n\n")
        return b"".join([*chunks, _DONE])
