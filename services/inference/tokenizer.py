"""Text to token ids and back to bytes, in the API's own process: neither torch nor transformers is imported here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from services.inference.chatglm.glm4_tokenizer import Glm4Tokenizer
from services.inference.chatglm.tokenizer import ChatGLMTokenizer
from services.inference.fast_tokenizer import FastTokenizer
from services.inference.model_files import TokenizerError, read_object
from services.inference.scripted import FIRST_SPECIAL, SPECIAL_TOKENS

__all__ = ["ByteTokenizer", "Tokenizer", "TokenizerError", "load_tokenizer"]


class Tokenizer(Protocol):
    """What the renderers and the detokeniser know of a tokenizer.

    Attributes:
        token_bytes: the bytes each id stands for; special tokens stand for none. A model's logits may be padded to
            more ids than there are here: those stand for nothing.
        stop_ids: ids that end an answer.
        strips_leading_space: whether decoding drops one space at the start of a text, because encoding adds it.
        specials: the special tokens' ids by their text.
        spaceless: of the special tokens, those beside which whitespace is dropped: (before it, after it).
    """

    token_bytes: list[bytes]
    stop_ids: frozenset[int]
    strips_leading_space: bool
    specials: Mapping[str, int]
    spaceless: Mapping[str, tuple[bool, bool]]

    def encode(self, text: str, *, first: bool = True) -> list[int]:
        """Ids of ordinary text, in which no special token can arise.

        Args:
            text: without lone surrogates.
            first: whether the text begins the sequence; some tokenizers mark that place.
        """
        ...

    def encode_whole(self, text: str) -> list[int]:
        """Ids of a text that is all of a sequence, with the special tokens that the model saw around such texts."""
        ...


class ByteTokenizer:
    """UTF-8 bytes as ids 0 to 255, then four special tokens: for the scripted engine, which has no vocabulary."""

    def __init__(self) -> None:
        self.specials: Mapping[str, int] = {name: FIRST_SPECIAL + i for i, name in enumerate(SPECIAL_TOKENS)}
        self.spaceless: Mapping[str, tuple[bool, bool]] = {}
        self.token_bytes = [bytes([i]) for i in range(256)] + [b""] * len(SPECIAL_TOKENS)
        self.stop_ids = frozenset({self.specials["<|end|>"]})
        self.strips_leading_space = False

    def encode(self, text: str, *, first: bool = True) -> list[int]:  # noqa: ARG002 - the interface's
        """The text's UTF-8 bytes."""
        return list(text.encode())

    def encode_whole(self, text: str) -> list[int]:
        """The same."""
        return self.encode(text)


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a model directory: its tokenizer.json, else ChatGLM's or GLM-4's original tokenizer.model.

    Raises TokenizerError where there is neither, or where what is there cannot be used exactly.
    """
    if (directory / "tokenizer.json").is_file():
        return FastTokenizer.load(directory)
    if not (directory / "tokenizer.model").is_file():
        raise TokenizerError(f"{directory} has no tokenizer.json and no tokenizer.model; ChatGLM-6B v1 is too old")
    if read_object(directory, "config.json").get("model_type") != "chatglm":
        raise TokenizerError(f"{directory} has a tokenizer.model, read for ChatGLM only, but no tokenizer.json")
    if Glm4Tokenizer.recognises(directory / "tokenizer.model"):
        return Glm4Tokenizer.load(directory)
    return ChatGLMTokenizer.load(directory)
