"""ChatGLM2's and ChatGLM3's original tokenizer.model.

The SentencePiece library itself encodes: exact whatever the file's settings are, where a conversion to another library
is exact only for some (pieces with equal scores, for one, cannot be told apart in a list of merges). It is small, has
no dependencies, and lets other threads run.
"""

from collections.abc import Mapping
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from services.inference.model_files import TokenizerError, read_stop_ids

# Numbered in this order after the pieces of the file.
SPECIAL_TOKENS = (
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "sop",
    "eop",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)


class ChatGLMTokenizer:
    """A SentencePiece model with ChatGLM's special tokens behind it. Those exist as ids only, never as text."""

    def __init__(self, pieces: SentencePieceProcessor, stop_ids: frozenset[int] = frozenset()) -> None:
        size = pieces.get_piece_size()
        self.specials: Mapping[str, int] = {name: size + i for i, name in enumerate(SPECIAL_TOKENS)}
        self.spaceless: Mapping[str, tuple[bool, bool]] = {}
        self.token_bytes = [_piece_bytes(pieces, i) for i in range(size)] + [b""] * len(SPECIAL_TOKENS)
        # The model ends its turn by beginning another's.
        self.stop_ids = stop_ids | {pieces.eos_id(), self.specials["<|user|>"], self.specials["<|observation|>"]}
        self.strips_leading_space = True
        self._pieces = pieces

    @classmethod
    def load(cls, directory: Path) -> "ChatGLMTokenizer":
        """Read a directory's tokenizer.model. Raises TokenizerError for a file that ChatGLM2 and 3 do not have."""
        path = directory / "tokenizer.model"
        pieces = SentencePieceProcessor()
        try:
            pieces.load_from_serialized_proto(path.read_bytes())
        except (RuntimeError, OSError, ValueError) as error:
            raise TokenizerError(f"{path} is not a SentencePiece model: {error}") from error
        if not any(pieces.is_byte(i) for i in range(pieces.get_piece_size())):
            raise TokenizerError(f"{path} has no byte pieces, so that characters would be lost; ChatGLM's has them")
        if pieces.encode("a", out_type=str)[:1] not in (["▁a"], ["▁"]):
            raise TokenizerError(f"{path} does not mark the start of a text as ChatGLM's does (add_dummy_prefix)")
        return cls(pieces, read_stop_ids(directory))

    def encode(self, text: str, *, first: bool = True) -> list[int]:  # noqa: ARG002 - every text is marked alike
        """Ids of ordinary text, in which no special token can arise."""
        ids: list[int] = self._pieces.encode(text)
        return ids

    def encode_whole(self, text: str) -> list[int]:
        """The same behind the two tokens that begin every sequence."""
        return [self.specials["[gMASK]"], self.specials["sop"], *self.encode(text)]


def _piece_bytes(pieces: SentencePieceProcessor, i: int) -> bytes:
    piece: str = pieces.id_to_piece(i)
    if pieces.is_control(i) or pieces.is_unknown(i):
        return b""
    if pieces.is_byte(i):
        return bytes([int(piece[3:-1], 16)])
    return piece.replace("▁", " ").encode()
