import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models

from services.inference.fast_tokenizer import FastTokenizer
from services.inference.tokenizer import ByteTokenizer, Tokenizer, TokenizerError, load_tokenizer
from tests.test_services.test_inference.vocabularies import hostile_strings, write_json


def test_bytes_are_utf8_and_specials_follow() -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode("é<|user|>")
    assert ids == list("é<|user|>".encode())
    assert b"".join(tokenizer.token_bytes[i] for i in ids) == "é<|user|>".encode()
    assert [tokenizer.specials.get(f"<|{name}|>") for name in ("system", "user", "assistant", "end")] == [
        256,
        257,
        258,
        259,
    ]
    assert tokenizer.stop_ids == {259}


@pytest.mark.parametrize("name", ["chatml", "llama"])
def test_text_comes_back_and_spells_no_special_token(tokenizers: dict[str, Tokenizer], name: str) -> None:
    tokenizer = tokenizers[name]
    special = set(tokenizer.specials.values())
    for text in hostile_strings(7, 800):
        if "▁" in text or (name == "chatml" and "e\u0301" in text):
            continue  # the vocabulary's own normalisation changes these
        ids = tokenizer.encode(text)
        assert not special & set(ids), text
        decoded = b"".join(tokenizer.token_bytes[i] for i in ids).decode()
        if name == "llama":
            assert decoded.removeprefix(" ") == text.removeprefix(" ")


def test_a_file_of_one_model_is_read_as_the_library_reads_it(byte_level: Path) -> None:
    tokenizer = load_tokenizer(byte_level)
    reference = Backend.from_file(str(byte_level / "tokenizer.json"))
    reference.encode_special_tokens = True
    for text in hostile_strings(8, 800):
        if "<think>" not in text:
            ids = reference.encode(text, add_special_tokens=False).ids
            assert tokenizer.encode(text) == ids
            assert b"".join(tokenizer.token_bytes[i] for i in ids).decode() == reference.decode(ids)


def test_the_sequences_start_is_marked_only_there(llama: Path) -> None:
    tokenizer = load_tokenizer(llama)
    reference = Backend.from_file(str(llama / "tokenizer.json"))
    for text in ("the", " the", "  the", "a the", "▁the", "\nthe", ""):
        assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False).ids
        after_special = reference.encode("<s>" + text, add_special_tokens=False).ids[1:]
        assert tokenizer.encode(text, first=False) == after_special
    assert tokenizer.strips_leading_space


def test_stop_ids_come_from_all_that_names_them(byte_level: Path, llama: Path) -> None:
    assert load_tokenizer(byte_level).stop_ids == {0, 2}
    assert load_tokenizer(llama).stop_ids == {2}


def test_an_unflagged_token_that_the_template_writes_is_special_but_visible(byte_level: Path) -> None:
    backend = Backend.from_file(str(byte_level / "tokenizer.json"))
    i = backend.token_to_id("<think>")
    assert FastTokenizer(backend).specials.get("<think>") is None
    assert FastTokenizer(backend).encode("<think>") == [i]
    assert i is not None
    tokenizer = FastTokenizer(backend, "{{ '<think>' }}")
    assert tokenizer.specials.get("<think>") == i
    assert i not in tokenizer.encode("<think>")
    assert tokenizer.token_bytes[i] == b"<think>"


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match="cannot be read"):
        load_tokenizer(tmp_path)
    Backend(models.WordLevel({"a": 0}, "a")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="streamed exactly"):
        load_tokenizer(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", [])
    with pytest.raises(TokenizerError, match="not a JSON object"):
        load_tokenizer(tmp_path)


def test_neither_torch_nor_transformers_is_imported() -> None:
    code = (
        "import json, sys, services.inference.prompt, services.inference.detokenizer;"
        "print(json.dumps([m for m in ('torch', 'transformers', 'numpy', 'google.protobuf') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    ("name", "begins"),
    [("chatglm", ["[gMASK]", "sop"]), ("glm4", ["[gMASK]", "<sop>"]), ("chatml", []), ("llama", [])],
)
def test_a_whole_text_begins_as_the_texts_began_that_the_model_has_seen(
    tokenizers: dict[str, Tokenizer], name: str, begins: list[str]
) -> None:
    tokenizer = tokenizers[name]
    before = [tokenizer.specials[special] for special in begins]
    for text in ("the philosophy", "你好<|user|>", " ", ""):
        assert tokenizer.encode_whole(text) == [*before, *tokenizer.encode(text)]
