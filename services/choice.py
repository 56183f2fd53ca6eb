"""One of a turn's answers while it is read: tokens in; text, calls and chances out."""

from app.common.errors import GenerationFailed
from database.identifier import new_id
from services.answer_delta import AnswerDelta, CallDelta, TextDelta
from services.inference.answer import AnswerReader
from services.inference.call_format import AnswerPart
from services.inference.engine import Delta, End
from services.inference.message import ToolCall
from services.inference.stop_strings import StopStrings
from services.inference.strict_arguments import StrictArguments
from services.token_chances import TokenChances


class Choice:
    """Reads one answer, and ends it where the caller wants it to end.

    Attributes:
        index: which of the turn's answers, from 0.
        finish_reason: `stop`, `length` or `tool_calls`, once it has ended; what is pushed then is not looked at.
        tokens: how many were generated for it.
    """

    def __init__(
        self,
        reader: AnswerReader,
        *,
        index: int = 0,
        stops: tuple[str, ...] = (),
        one_call: bool = False,
        chances: TokenChances | None = None,
        strict: StrictArguments | None = None,
    ) -> None:
        """Begin an answer.

        Args:
            reader: of this answer alone.
            index: which of the turn's answers, from 0.
            stops: texts before which it ends.
            one_call: whether it ends after its first tool call.
            chances: of this answer alone; None where log-probabilities were not asked for.
            strict: what calls have to be; None for anything.
        """
        self.index = index
        self.finish_reason: str | None = None
        self.tokens = 0
        self._reader = reader
        self._stops = StopStrings(stops)
        self._one_call = one_call
        self._chances = chances
        self._strict = strict
        self._calls = 0

    def push(self, delta: Delta) -> list[AnswerDelta]:
        """What these tokens complete, possibly nothing."""
        if self.finish_reason is not None:
            return []
        self.tokens += len(delta.token_ids)
        if self._chances is not None and delta.logprobs is not None:
            self._chances.push(delta.token_ids, delta.logprobs)
        return self._read(self._reader.push(delta.token_ids))

    def end(self, end: End) -> list[AnswerDelta]:
        """What is left when the engine has ended the answer."""
        if self.finish_reason is not None:
            return []
        self.tokens = end.completion_tokens
        if self._chances is not None:
            self._chances.push_stop(end)
        deltas = self._last(cut=end.reason == "length")
        if self.finish_reason is None:
            self.finish_reason = "tool_calls" if self._calls and end.reason == "stop" else end.reason
        return deltas

    def cut(self) -> list[AnswerDelta]:
        """What is left when the turn ends before the answer does."""
        # Nothing can fail any more.
        self._strict = None
        return [] if self.finish_reason is not None else self._last(cut=True)

    def _last(self, *, cut: bool) -> list[AnswerDelta]:
        deltas = self._read(self._reader.flush(cut=cut))
        if self.finish_reason is None:
            deltas += self._text(self._stops.flush())
            if self._chances is not None and (chances := self._chances.rest()):
                deltas.append(TextDelta("", self.index, chances))
        return deltas

    def _read(self, parts: list[AnswerPart]) -> list[AnswerDelta]:
        deltas: list[AnswerDelta] = []
        for part in parts:
            if isinstance(part, str):
                deltas += self._text(self._stops.push(part))
                if self._stops.found:
                    self.finish_reason = "tool_calls" if self._calls else "stop"
            else:
                # Held text was no stop string: the message that it belongs to is over.
                deltas += [*self._text(self._stops.flush()), *self._call(part)]
                if self._one_call:
                    self.finish_reason = "tool_calls"
            if self.finish_reason is not None:
                break
        return deltas

    def _text(self, text: str) -> list[AnswerDelta]:
        if not text:
            return []
        return [TextDelta(text, self.index, self._chances.release(text) if self._chances else ())]

    def _call(self, call: ToolCall) -> list[AnswerDelta]:
        if self._strict is not None and not self._strict.allow(call):
            # Without the function's name, which the caller gave and the model repeated: this is logged.
            raise GenerationFailed("The model called a function with arguments that its schema does not allow.")
        number, self._calls = self._calls, self._calls + 1
        return [CallDelta(id=f"call_{new_id()}", call=call, number=number, index=self.index)]
