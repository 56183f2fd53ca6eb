"""From token ids to text as it streams: whole characters, whole emoji, and nothing held back for long."""

import codecs
import re

import regex

from services.inference.tokenizer import Tokenizer

# The most characters of an unfinished emoji, or of a first line, that are held back.
_MOST_HELD = 64
_JOINING = r"\u200d\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
# Last characters after which the emoji that they end may go on; digits may become keycaps. Looked up for every token.
_OPEN = frozenset(
    regex.findall(
        rf"[\p{{Extended_Pictographic}}\p{{Regional_Indicator}}0-9#*{_JOINING}]",
        "".join(map(chr, (*range(0x3300), *range(0xFE00, 0xFE10), *range(0x1F000, 0x20000), *range(0xE0020, 0xE0080)))),
    )
)
_CLUSTER = regex.compile(
    rf"(?:\p{{Extended_Pictographic}}[{_JOINING}]*(?:(?<=\u200d)\p{{Extended_Pictographic}}[{_JOINING}]*)*"
    r"|[0-9#*]\ufe0f?)\Z"
)
# What the API refuses in callers' texts: an answer that held it could not be sent back as history, nor NUL be stored.
_UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REGIONAL = "".join(chr(0x1F1E6 + i) for i in range(26))


class Detokenizer:
    """Decodes one answer. What all calls return, put together, is the same for every way to split the ids.

    Invalid UTF-8 becomes U+FFFD. Control characters are dropped, tabs and line ends excepted. The space that encoding
    adds at the start of a text is dropped where the tokenizer adds one.
    """

    def __init__(self, tokenizer: Tokenizer, *, strips_first_line: bool = False, continues: bool = False) -> None:
        """Begin an answer.

        Args:
            tokenizer: the one of the model that writes the answer.
            strips_first_line: drop everything up to the first newline. A line of more than 64 characters, or one
                without an end, is taken for text.
            continues: the answer goes on with a text, so that a space at its start is one.
        """
        self._bytes = tokenizer.token_bytes
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._at_start = tokenizer.strips_leading_space and not continues
        self._in_first_line = strips_first_line
        self._line = ""
        self._held = ""

    def push(self, token_ids: list[int]) -> str:
        """The text that these ids complete, possibly none. An id beyond the vocabulary stands for nothing."""
        table = self._bytes
        text = self._decode(b"".join([table[i] for i in token_ids if i < len(table)]))
        if self._at_start or self._in_first_line or _UNWANTED.search(text):
            text = self._cleaned(text)
        if self._held:
            text = self._held + text
            self._held = ""
        if not text or text[-1] not in _OPEN:
            return text
        end = len(text) - _unfinished(text)
        self._held = text[end:]
        return text[:end]

    def flush(self, *, cut: bool = False) -> str:
        """What is left when the answer has ended. Nothing may be pushed afterwards.

        `cut`: the answer was ended from outside, so that a character that is not whole is dropped. The model meant it.
        """
        text = self._held + self._cleaned("" if cut else self._decode(b"", final=True), final=True)
        self._held = ""
        return text

    def _cleaned(self, text: str, *, final: bool = False) -> str:
        text = without_controls(text)
        if self._in_first_line:
            text = self._after_first_line(text, final=final)
        if self._at_start and text:
            self._at_start = False
            text = text.removeprefix(" ")
        return text

    def _after_first_line(self, text: str, *, final: bool) -> str:
        line = self._line + text
        end = line.find("\n", 0, _MOST_HELD + 1)
        if end < 0 and not final and len(line) <= _MOST_HELD:
            self._line = line
            return ""
        self._in_first_line = False
        return line[end + 1 :]


def without_controls(text: str) -> str:
    """The text without control characters, tabs and line ends excepted."""
    return _UNWANTED.sub("", text)


def _unfinished(text: str) -> int:
    """How many of the last characters belong to an emoji that may go on."""
    if text[-1] in _REGIONAL:
        return (len(text) - len(text.rstrip(_REGIONAL))) % 2
    cluster = _CLUSTER.search(text, max(0, len(text) - _MOST_HELD))
    return len(cluster[0]) if cluster else 0
