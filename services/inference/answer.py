"""From the token ids of an answer to its text and tool calls, as they come."""

from services.inference.call_format import AnswerPart, CallFormat, CallParser
from services.inference.detokenizer import Detokenizer
from services.inference.tokenizer import Tokenizer
from services.inference.tool import ToolUse


class PlainText:
    """The parser of an answer to a request without tools: all of it is text."""

    def push(self, text: str) -> list[AnswerPart]:
        """The text itself."""
        return [text]

    def end(self) -> list[AnswerPart]:
        """Nothing was held."""
        return []


class AnswerReader:
    """Reads one answer.

    Texts are deltas. Calls are whole, in the model's order; a client is told of them by their number. An answer may
    consist of several messages, the first text and the next calls: texts are then put together by a newline.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        calls: CallFormat | None,
        tools: ToolUse,
        *,
        strips_first_line: bool = False,
        continues: bool = False,
    ) -> None:
        """Begin an answer to a prompt that was rendered with the same tools.

        Args:
            tokenizer: the one of the model that writes the answer.
            calls: how it writes calls; None where none are looked for.
            tools: those of the request.
            strips_first_line: as in `Detokenizer`, for an answer without calls; a format of calls does it itself.
            continues: as in `Detokenizer`.
        """
        self._tokenizer = tokenizer
        self._calls = calls
        self._tools = tools
        self._strips_first_line = strips_first_line and calls is None
        self._continues = continues
        self._separator = tokenizer.specials.get(calls.separator) if calls and calls.separator else None
        self._spoke = self._speaks = False
        self._begin()
        if calls:
            self._parser.push(calls.opening(tools))

    def push(self, token_ids: list[int]) -> list[AnswerPart]:
        """What these ids complete, possibly nothing."""
        parts: list[AnswerPart] = []
        while self._separator is not None and self._separator in token_ids:
            at = token_ids.index(self._separator)
            parts += self._read(token_ids[:at]) + self.flush()
            self._spoke |= self._speaks
            self._begin()
            token_ids = token_ids[at + 1 :]
        return parts + self._read(token_ids)

    def flush(self, *, cut: bool = False) -> list[AnswerPart]:
        """What is left when the answer has ended; `cut`: from outside, as in `Detokenizer.flush`."""
        rest = self._parser.push(self._detokenizer.flush(cut=cut))
        return self._joined(rest) + self._joined(self._parser.end())

    def _read(self, token_ids: list[int]) -> list[AnswerPart]:
        text = self._detokenizer.push(token_ids)
        return self._joined(self._parser.push(text)) if text else []

    def _begin(self) -> None:
        self._detokenizer = Detokenizer(
            self._tokenizer, strips_first_line=self._strips_first_line, continues=self._continues
        )
        self._parser: CallParser = self._calls.parser(self._tools) if self._calls else PlainText()
        self._speaks = False

    def _joined(self, parts: list[AnswerPart]) -> list[AnswerPart]:
        if not all(parts):
            parts = [part for part in parts if part]
        if self._speaks:
            return parts
        for at, part in enumerate(parts):
            if isinstance(part, str):
                self._speaks = True
                if self._spoke:
                    parts[at] = "\n" + part
                break
        return parts
