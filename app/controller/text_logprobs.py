"""Log-probabilities of one answer's tokens as `/v1/completions` gives them, part by part."""

import codecs
from collections.abc import Sequence

from schemas.text_completion_schema import TextLogprobs
from services.answer_delta import TokenChance
from services.echo import Echo
from services.inference.detokenizer import without_controls

_decoder = codecs.getincrementaldecoder("utf-8")


class TextLogprobsWriter:
    """Knows where in the answer's text each token begins."""

    def __init__(self) -> None:
        self._begin(0)

    def echo(self, echo: Echo) -> TextLogprobs:
        """Those of the prompt, which come first; what follows begins where its text ends."""
        spelled = b"".join(chance.bytes for chance in echo.chances).decode("utf-8", "replace")
        # Some tokenizers mark the beginning of a text by a space that is not in it.
        self._marked = spelled.startswith(" ") and len(spelled) > len(echo.text)
        part = self.part(echo.chances)
        self._begin(len(echo.text))
        return part

    def part(self, chances: Sequence[TokenChance]) -> TextLogprobs:
        """Those of the next tokens."""
        return TextLogprobs(
            tokens=[_name(chance) for chance in chances],
            token_logprobs=[chance.logprob for chance in chances],
            top_logprobs=[_likeliest(chance) for chance in chances],
            text_offset=[self._offset(chance.bytes) for chance in chances],
        )

    def _begin(self, at: int) -> None:
        self._at = at
        self._decode = _decoder("replace").decode
        self._marked = False

    def _offset(self, piece: bytes) -> int:
        begin = self._at
        text = without_controls(self._decode(piece))
        if self._marked and text:
            self._marked = False
            text = text[1:]
        self._at += len(text)
        return begin


def _likeliest(chance: TokenChance) -> dict[str, float] | None:
    """The alternatives, and the token itself even where it is none of them."""
    found: dict[str, float] = {}
    for each in (*chance.alternatives, chance):
        if each.logprob is not None:
            # Several ids may be written alike; the first is the likeliest.
            found.setdefault(_name(each), each.logprob)
    return found or None


def _name(chance: TokenChance) -> str:
    try:
        return chance.bytes.decode() or chance.token
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in chance.bytes)
