"""Where tokens begin in a text, by the tokens of models that mark or split it."""

from pathlib import Path

import pytest

from app.controller.text_logprobs import TextLogprobsWriter
from services.echo import Echo
from services.inference.engine import TokenLogprobs
from services.inference.tokenizer import Tokenizer, load_tokenizer
from services.token_chances import TokenChances
from services.token_service import spelled
from tests.test_services.test_inference.vocabularies import (
    glm4_tokens,
    sentencepiece_model,
    write_byte_level,
    write_chatglm3,
    write_glm4,
    write_llama,
)

TEXTS = ["the world 你好 🇩🇪 people", " the world", "你好"]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    def directory(name: str) -> Path:
        return tmp_path_factory.mktemp(name)

    written = {
        "chatglm": write_chatglm3(directory("chatglm"), sentencepiece_model()),
        "llama": write_llama(directory("llama")),
        "chatml": write_byte_level(directory("chatml")),
        "glm4": write_glm4(directory("glm4"), glm4_tokens()),
    }
    return {name: load_tokenizer(path) for name, path in written.items()}


def echo_of(tokenizer: Tokenizer, text: str, ids: list[int], *, spells: bool) -> Echo:
    echo = Echo(text, ids, TokenChances(tokenizer), spells=spells)
    echo.push([TokenLogprobs(-1.0, [(token, -1.0), (5, -2.0)]) for token in ids[1:]])
    return echo


@pytest.mark.parametrize("name", ["chatglm", "llama", "chatml", "glm4"])
@pytest.mark.parametrize("spells", [False, True], ids=["text", "ids"])
def test_each_token_of_a_prompt_begins_where_its_text_does(
    tokenizers: dict[str, Tokenizer], name: str, *, spells: bool
) -> None:
    tokenizer = tokenizers[name]
    for given in TEXTS:
        ids = tokenizer.encode_whole(given)
        text = spelled(tokenizer, ids) if spells else given
        echo = echo_of(tokenizer, text, ids, spells=spells)
        writer = TextLogprobsWriter()
        part = writer.echo(echo)
        assert len(part.tokens) == len(part.text_offset) == len(ids)
        assert part.text_offset == sorted(part.text_offset)
        for token, begin, end in zip(part.tokens, part.text_offset, [*part.text_offset[1:], len(text)], strict=True):
            # A token that is no whole characters, or a special one that the text does not spell, has none of its own.
            if begin < end and not token.startswith("bytes:"):
                assert text[begin:end] in {token, token.removeprefix(" ")}
        assert part.top_logprobs[0] is None
        # What follows begins where the prompt ends.
        assert writer.part(echo.chances[-1:]).text_offset == [len(text)]
