import itertools
import random

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.detokenizer import Detokenizer
from services.inference.tokenizer import ByteTokenizer, Tokenizer

CLUSTERS = ["😀", "👨‍👩‍👧‍👦", "👍🏽", "❤️", "🇩🇪", "🏴\U000e0067\U000e0062\U000e007f", "1️⃣", "👩🏽‍🚀", "🏳️‍🌈", "©", "⌚︎"]
TEXTS = st.lists(st.sampled_from([*CLUSTERS, "你", "好", "a", " ", "1", "\n", "é", "क्‍ष", "🇩", "\u200d"])).map("".join)
BYTES = ByteTokenizer()
UNWANTED = regex.compile(r"(?![\t\n\r])[\p{Cc}--[\x80-\x9f]]", regex.V1)


def stream(data: bytes, cuts: list[int], *, strips_first_line: bool = False) -> list[str]:
    detokenizer = Detokenizer(BYTES, strips_first_line=strips_first_line)
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pushed = [detokenizer.push(list(data[a:b])) for a, b in itertools.pairwise(bounds)]
    return [*pushed, detokenizer.flush()]


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 400)))
def test_every_split_gives_the_same_text(text: str, cuts: list[int]) -> None:
    parts = stream(text.encode(), cuts)
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60)))
def test_broken_bytes_are_replaced_alike_in_every_split(data: bytes, cuts: list[int]) -> None:
    assert "".join(stream(data, cuts)) == UNWANTED.sub("", data.decode(errors="replace"))


@settings(max_examples=200, deadline=None)
@given(st.text("ab\n 你😀", max_size=80), st.lists(st.integers(0, 200)))
def test_the_first_line_is_dropped_alike_in_every_split(text: str, cuts: list[int]) -> None:
    line, newline, rest = text.partition("\n")
    expected = rest if newline and len(line) <= 64 else text
    assert "".join(stream(text.encode(), cuts, strips_first_line=True)) == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*CLUSTERS, "你", "a", "好"]), min_size=1), st.lists(st.integers(0, 400)))
def test_emoji_arrive_whole(clusters: list[str], cuts: list[int]) -> None:
    text = "".join(clusters)
    boundaries = {match.end() for match in regex.finditer(r"\X", text)} | {0}
    at = 0
    for part in stream(text.encode(), cuts):
        at += len(part)
        assert at in boundaries


def test_only_what_may_go_on_is_held() -> None:
    for text, held in (("你好", 0), ("abc", 0), ("a👍", 1), ("a👍🏽", 2), ("🇩🇪", 0), ("🇩🇪🇫", 1), ("क्‍", 0), ("v1", 1)):
        assert len(text) - len(Detokenizer(BYTES).push(list(text.encode()))) == held, text


def test_nothing_is_held_for_ever() -> None:
    for endless in ("👨‍", "❤️", "\U0001f3f4\U000e0067", "👍🏽🏽🏽", "0\ufe0f", "🇩"):
        detokenizer = Detokenizer(BYTES)
        sent = received = 0
        for byte in (endless * 200).encode():
            received += len(detokenizer.push([byte]))
            sent += byte & 0xC0 != 0x80
            assert sent - received <= 66
        assert received + len(detokenizer.flush()) == len(endless * 200)


def test_ids_that_stand_for_nothing() -> None:
    detokenizer = Detokenizer(BYTES)
    assert detokenizer.push([72, 257, 0, 105, 70_000]) == "Hi"
    assert detokenizer.flush() == ""


@pytest.mark.parametrize("name", ["chatglm", "glm4", "chatml", "llama"])
def test_answers_come_out_as_they_were_encoded(tokenizers: dict[str, Tokenizer], name: str) -> None:
    tokenizer = tokenizers[name]
    source = random.Random(9)
    for text in ("", "Hello 你好", " two  spaces", "👨‍👩‍👧‍👦 and 🇩🇪", "\n\nlate", "the 1️⃣"):
        ids = tokenizer.encode(text)
        detokenizer = Detokenizer(tokenizer)
        out = ""
        while ids:
            size = source.randint(1, 3)
            out, ids = out + detokenizer.push(ids[:size]), ids[size:]
        assert out + detokenizer.flush() == (text.removeprefix(" ") if name == "llama" else text)


def test_chatglm3s_metadata_line_and_the_space_after_it_are_dropped(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["chatglm"]
    for metadata in ("", "get_weather"):
        detokenizer = Detokenizer(tokenizer, strips_first_line=True)
        ids = [*tokenizer.encode(metadata + "\n"), *tokenizer.encode("Hello\n你好 1")]
        assert "".join([detokenizer.push([i]) for i in ids]) + detokenizer.flush() == "Hello\n你好 1"


@pytest.mark.parametrize("name", ["chatglm", "llama", "chatml", "glm4"])
def test_a_text_and_what_continues_it_are_together_the_whole_text(tokenizers: dict[str, Tokenizer], name: str) -> None:
    tokenizer = tokenizers[name]
    text = "the world 你好 people of the model"
    ids = tokenizer.encode(text)
    for at in range(1, len(ids)):
        begun, continued = Detokenizer(tokenizer), Detokenizer(tokenizer, continues=True)
        first = begun.push(ids[:at])
        if begun.flush():
            continue  # in the middle of a character
        assert first + continued.push(ids[at:]) + continued.flush() == text
