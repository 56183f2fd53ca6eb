"""Tokenizers that are published as a tokenizer.json."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend
from tokenizers.pre_tokenizers import Metaspace

from services.inference.model_files import TokenizerError, read_chat_template, read_object, read_stop_ids, token_text

_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


class FastTokenizer:
    """A tokenizer.json behind the Tokenizer interface.

    Special are the tokens that the file calls so, and those that the model's chat template writes: some models publish
    their role tokens as ordinary added ones, and a user's text must not be able to spell those either.
    """

    def __init__(self, backend: Backend, template: str = "", stop_ids: frozenset[int] = frozenset()) -> None:
        added: dict[int, AddedToken] = backend.get_added_tokens_decoder()
        literal = {i: b"" if token.special else token.content.encode() for i, token in added.items()}
        special = {i: token for i, token in added.items() if token.special or _written_by(template, token.content)}
        for token in special.values():
            token.special = True
        backend.add_special_tokens(list(special.values()))
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        decoders = list(_flatten(json.loads(backend.decoder.__getstate__()) if backend.decoder else None))
        self.specials: Mapping[str, int] = {token.content: i for i, token in special.items()}
        self.spaceless: Mapping[str, tuple[bool, bool]] = {
            token.content: (token.lstrip, token.rstrip) for token in special.values() if token.lstrip or token.rstrip
        }
        self.stop_ids = stop_ids
        self.strips_leading_space = any(_strips(decoder) for decoder in decoders)
        self.token_bytes = _token_bytes(backend, {str(decoder["type"]) for decoder in decoders}, literal)
        self._backend = backend
        # The mark of the sequence's start is set here by hand, so that a text after a special token can go without.
        self._marks_start = False
        pre = backend.pre_tokenizer
        if isinstance(pre, Metaspace) and pre.prepend_scheme == "first":
            pre.prepend_scheme = "never"
            self._marks_start = True

    @classmethod
    def load(cls, directory: Path) -> "FastTokenizer":
        """Read a directory's tokenizer.json. Raises TokenizerError where it cannot be read or decoded exactly."""
        path = directory / "tokenizer.json"
        try:
            backend = Backend.from_file(str(path))
        except Exception as error:  # the library raises no narrower class
            raise TokenizerError(f"{path} cannot be read: {error}") from error
        stop_ids = set(read_stop_ids(directory))
        eos = token_text(read_object(directory, "tokenizer_config.json").get("eos_token"))
        if eos is not None and (eos_id := backend.token_to_id(eos)) is not None:
            stop_ids.add(eos_id)
        return cls(backend, read_chat_template(directory) or "", frozenset(stop_ids))

    def encode(self, text: str, *, first: bool = True) -> list[int]:
        """Ids of ordinary text, in which no special token can arise; `first`: it begins the sequence."""
        return self._encode(text, first=first, special=False)

    def encode_whole(self, text: str) -> list[int]:
        """Ids of a text that is all of a sequence, with the special tokens that the file puts around one."""
        return self._encode(text, first=True, special=True)

    def _encode(self, text: str, *, first: bool, special: bool) -> list[int]:
        if first and self._marks_start and text and text[0] not in " ▁":
            text = " " + text
        # Offsets, which nobody asks for, take as long as the ids.
        ids: list[int] = self._backend.encode_batch_fast([text], add_special_tokens=special)[0].ids
        return ids


def _written_by(template: str, token: str) -> bool:
    return bool(token.strip()) and token in template


def _flatten(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if decoder is None:
        return
    if decoder["type"] != "Sequence":
        yield decoder
    for inner in decoder.get("decoders", ()):
        yield from _flatten(inner)


def _strips(decoder: dict[str, Any]) -> bool:
    if decoder["type"] == "Metaspace":
        return bool(decoder.get("prepend_scheme") != "never")
    return bool(decoder["type"] == "Strip" and decoder["content"] == " " and decoder["start"] == 1)


def _token_bytes(backend: Backend, decoders: set[str], literal: Mapping[int, bytes]) -> list[bytes]:
    vocabulary: dict[str, int] = backend.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values()) + 1)
    if "ByteLevel" in decoders:
        alphabet = _byte_alphabet()
        for piece, i in vocabulary.items():
            try:
                table[i] = piece.translate(alphabet).encode("latin-1")
            except UnicodeEncodeError:  # not made of the alphabet: stands for itself
                table[i] = piece.encode()
    elif decoders & {"ByteFallback", "Metaspace"}:
        for piece, i in vocabulary.items():
            byte = _BYTE_PIECE.fullmatch(piece) if "ByteFallback" in decoders else None
            table[i] = bytes.fromhex(byte[1]) if byte else piece.replace("▁", " ").encode()
    else:
        raise TokenizerError(f"tokenizer.json decodes by {sorted(decoders)}; only byte pieces can be streamed exactly")
    for i, text in literal.items():
        table[i] = text
    return table


def _byte_alphabet() -> dict[int, int]:
    """GPT-2's letters for the 256 bytes, as code point → byte: printable Latin-1 stands for itself."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: byte for byte in printable} | {0x100 + i: byte for i, byte in enumerate(others)}
