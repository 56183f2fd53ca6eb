"""The events of `/v1/completions` as its chunks."""

import msgspec

from app.common.handlers import error_envelope
from app.controller.completion_answer import completion_usage
from app.controller.sse import KEEP_ALIVE
from app.controller.text_completion_answer import echo_of, text_completion_id
from app.controller.text_logprobs import TextLogprobsWriter
from schemas.text_completion_schema import TextLogprobs
from services.answer_delta import CallDelta
from services.text_completion_service import StartedTexts
from services.turn_end import TurnEnd, TurnEvent

_DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.encode


class TextCompletionChunks:
    """Writes one stream: each answer's prompt first, if it is echoed; its finish reason last, once all is committed."""

    def __init__(self, started: StartedTexts, model: str, *, logprobs: bool, include_usage: bool) -> None:
        """`include_usage`: one more chunk at the end says what was used, and all others that they do not."""
        turn = started.turn
        created = int(turn.created_at.timestamp())
        head = {"id": text_completion_id(turn), "object": "text_completion", "created": created, "model": model}
        self._head = b"data: " + _encode(head | {"system_fingerprint": None})[:-1] + b',"choices":['
        self._tail = (b'],"usage":null' if include_usage else b"]") + b"}\n\n"
        self._include_usage = include_usage
        self._logprobs = logprobs
        self._started = started
        self._writers: dict[int, TextLogprobsWriter] = {}

    def __call__(self, event: TurnEvent) -> bytes:
        """The bytes of an event: usually one chunk, sometimes several."""
        if isinstance(event, TurnEnd):
            return self._end(event)
        if isinstance(event, CallDelta) or (not event.text and not event.chances):
            return KEEP_ALIVE
        echo = self._echo(event.index)
        logprobs = self._writers[event.index].part(event.chances) if event.chances else None
        return echo + self._chunk(event.index, event.text, logprobs=logprobs)

    def _echo(self, index: int) -> bytes:
        """What comes before an answer's first text."""
        if index in self._writers:
            return b""
        writer = self._writers[index] = TextLogprobsWriter()
        echo = echo_of(self._started, index)
        if echo is None:
            return b""
        logprobs = writer.echo(echo)
        return self._chunk(index, echo.text, logprobs=logprobs if self._logprobs else None)

    def _chunk(
        self, index: int, text: str, *, logprobs: TextLogprobs | None = None, finish_reason: str | None = None
    ) -> bytes:
        written = None if logprobs is None else logprobs.model_dump()
        choice = {"index": index, "text": text, "logprobs": written, "finish_reason": finish_reason}
        return self._head + _encode(choice) + self._tail

    def _end(self, end: TurnEnd) -> bytes:
        if end.error is not None:
            # Without [DONE]: clients would take it for a good end.
            return b"data: " + _encode(error_envelope(end.error).model_dump()) + b"\n\n"
        chunks = []
        for index, reason in enumerate(end.finish_reasons):
            chunks += [self._echo(index), self._chunk(index, "", finish_reason=reason)]
        if self._include_usage:
            usage = _encode(completion_usage(end.usage).model_dump())
            chunks.append(self._head + b'],"usage":' + usage + b"}\n\n")
        return b"".join([*chunks, _DONE])
