"""GLM-4's original tokenizer.model: lines of a token in base64 and its rank, read by the tiktoken library.

As with SentencePiece, the library that the model was made with is exact by definition.
"""

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from tiktoken import Encoding

from services.inference.model_files import TokenizerError, read_object, read_stop_ids, token_text

# Numbered in this order after the tokens of the file.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
)
_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\s*")
_STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
# How a text is cut before its bytes are merged: the vocabulary was trained on such pieces.
_WORDS = "|".join(
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
# Without a line end, a run of blanks between 700,000 and a million is more than the library's matcher can take back.
_BLANKS = re.compile(r"\s{500000}")


class Glm4Tokenizer:
    """A vocabulary of byte strings with GLM-4's special tokens behind it. Those exist as ids only, never as text."""

    def __init__(self, tokens: list[bytes], stop_ids: frozenset[int] = frozenset()) -> None:
        ranks = {token: rank for rank, token in enumerate(tokens)}
        self.specials: Mapping[str, int] = {name: len(tokens) + i for i, name in enumerate(SPECIAL_TOKENS)}
        self.spaceless: Mapping[str, tuple[bool, bool]] = {}
        self.token_bytes = tokens + [b""] * len(SPECIAL_TOKENS)
        self.stop_ids = stop_ids | {self.specials[name] for name in _STOPS}
        self.strips_leading_space = False
        self._encoding = Encoding("glm4", pat_str=_WORDS, mergeable_ranks=ranks, special_tokens={})

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a tokenizer.model is of this kind, by its first line."""
        with path.open("rb") as file:
            return _LINE.fullmatch(file.readline(1000)) is not None

    @classmethod
    def load(cls, directory: Path) -> "Glm4Tokenizer":
        """Read a directory's tokenizer.model. Raises TokenizerError for a file that is not as GLM-4's."""
        path = directory / "tokenizer.model"
        tokens = _read_tokens(path)
        different = set(tokens)
        if not all(bytes([byte]) in different for byte in range(256)) or len(different) < len(tokens):
            raise TokenizerError(f"{path} lacks single bytes or has a token twice, so that texts would be lost")
        made = cls(tokens, read_stop_ids(directory))
        listed = read_object(directory, "tokenizer_config.json").get("added_tokens_decoder")
        for i, token in (listed if isinstance(listed, dict) else {}).items():
            name = token_text(token)
            if name is None or str(made.specials.get(name)) != i:
                raise TokenizerError(f"{directory} numbers the special token {name!r} {i}, which GLM-4 does not")
        return made

    def encode(self, text: str, *, first: bool = True) -> list[int]:  # noqa: ARG002 - every text is encoded alike
        """Ids of ordinary text, in which no special token can arise."""
        ids: list[int] = []
        at = 0
        for blanks in _BLANKS.finditer(text):
            ids += self._encoding.encode_ordinary(text[at : blanks.end()])
            at = blanks.end()
        return ids + self._encoding.encode_ordinary(text[at:])

    def encode_whole(self, text: str) -> list[int]:
        """The same behind the two tokens that begin every sequence."""
        return [self.specials["[gMASK]"], self.specials["<sop>"], *self.encode(text)]


def _read_tokens(path: Path) -> list[bytes]:
    """The tokens by rank, which goes from 0 without a gap."""
    tokens: list[bytes] = []
    try:
        for line in path.read_bytes().splitlines():
            token, rank = line.split()
            if int(rank) != len(tokens):
                raise TokenizerError(f"{path} has the rank {int(rank)} where {len(tokens)} is expected")
            tokens.append(base64.b64decode(token, validate=True))
    except ValueError as error:
        raise TokenizerError(f"{path} is not a list of tokens and ranks: {error}") from error
    return tokens
