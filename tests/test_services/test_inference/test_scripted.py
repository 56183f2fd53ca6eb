"""The scripted engine: what other tests stand on."""

import json
import queue
import time
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from services.inference.call_format import AnswerPart
from services.inference.codec import Codec
from services.inference.engine import (
    Delta,
    End,
    Event,
    Failed,
    GenerationRequest,
    PromptLogprobs,
    SamplingParams,
    TokenLogprobs,
)
from services.inference.message import Message, ToolCall
from services.inference.prompt import ByteRenderer
from services.inference.scripted import ScriptedCore
from services.inference.tokenizer import ByteTokenizer
from services.inference.tool import Tool, ToolUse

Events = queue.Queue[list[Event]]


@pytest.fixture
def core() -> Iterator[tuple[ScriptedCore, Events]]:
    core, events = ScriptedCore(rate=100_000, max_running=2), Events()
    core.start(events.put)
    yield core, events
    core.close()


def request(
    name: str,
    prompt: str,
    *,
    max_tokens: int = 100,
    deadline: float | None = None,
    n: int = 1,
    logprobs: int | None = None,
) -> GenerationRequest:
    ids = ByteRenderer(ByteTokenizer()).render([Message("system", "{}"), Message("user", prompt)])
    sampling = SamplingParams(logprobs=logprobs)
    return GenerationRequest(
        id=name, tenant="t", prompt_ids=ids, max_tokens=max_tokens, n=n, deadline=deadline, sampling=sampling
    )


def all_of(events: Events, name: str) -> list[Event]:
    """Everything of one generation, to its end."""
    found: list[Event] = []
    while not found or isinstance(found[-1], Delta | PromptLogprobs):
        found += [event for event in events.get(timeout=60) if event.id == name]
    return found


def said(found: list[Event]) -> bytes:
    return bytes(token for event in found if isinstance(event, Delta) for token in event.token_ids)


def test_a_call_is_scripted_and_its_result_is_the_next_script(core: tuple[ScriptedCore, Events]) -> None:
    engine, events = core
    tokenizer = ByteTokenizer()
    codec = Codec(tokenizer, ByteRenderer(tokenizer))
    tools = ToolUse(tools=(Tool(name="add"),))
    call = ToolCall("add", '{"a": 1}')
    messages = [Message("user", json.dumps({"say": f"add\n{call.arguments}"}))]
    expected: list[AnswerPart] = [call, "done"]
    for turn, part in enumerate(expected):
        ids = codec.renderer.render(messages, tools)
        engine.submit(GenerationRequest(id=str(turn), tenant="t", prompt_ids=ids, max_tokens=100))
        reader = codec.reader(tools)
        parts = reader.push(list(said(all_of(events, str(turn)))))
        assert parts + reader.flush() == [part]
        messages += [Message("assistant", "", (call,)), Message("tool", '{"say": "done"}')]


def test_the_last_user_message_is_the_script(core: tuple[ScriptedCore, Events]) -> None:
    engine, events = core
    engine.submit(request("a", json.dumps({"say": "好", "repeat": 2, "step": 2})))
    found = all_of(events, "a")
    assert said(found) == "好好".encode()
    assert [len(event.token_ids) for event in found if isinstance(event, Delta)] == [2, 2, 2]
    assert isinstance(found[-1], End)
    assert (found[-1].reason, found[-1].completion_tokens) == ("stop", 7)


@pytest.mark.parametrize(
    "prompt",
    ["hi", "{}x", "[1]", '{"say": 5}', '{"sya": "a"}', '{"rate": 0}', '{"repeat": 1e9}', '{"step": 0}', '{"hex": "0"}'],
)
def test_what_is_no_script_is_answered_as_text(core: tuple[ScriptedCore, Events], prompt: str) -> None:
    engine, events = core
    engine.submit(request("a", prompt))
    assert said(all_of(events, "a")) == f"You said: {prompt}".encode()


def test_bytes_that_are_no_text_can_be_said(core: tuple[ScriptedCore, Events]) -> None:
    engine, events = core
    engine.submit(request("a", '{"hex": "fffe00"}'))
    assert said(all_of(events, "a")) == b"\xff\xfe\x00"


def test_max_tokens_cuts_and_failing_on_command_fails_alone(core: tuple[ScriptedCore, Events]) -> None:
    engine, events = core
    engine.submit(request("cut", '{"say": "abcdef"}', max_tokens=3))
    cut = all_of(events, "cut")
    assert (said(cut), cut[-1]) == (b"abc", End("cut", "length", cut[-1].prompt_tokens, 0, 3))  # type: ignore[union-attr]
    engine.submit(request("fail", '{"say": "abcdef", "fail_after": 2}'))
    failed = all_of(events, "fail")
    assert said(failed) == b"ab"
    assert isinstance(failed[-1], Failed)


def test_a_prompt_is_scored_before_its_answer_and_the_end_is_scored_too(core: tuple[ScriptedCore, Events]) -> None:
    engine, events = core
    sampling = SamplingParams(logprobs=0, prompt_logprobs=1)
    scores = [TokenLogprobs(0.0, [(125, 0.0)])]
    asked = GenerationRequest(id="r", tenant="t", prompt_ids=[123, 125], max_tokens=9, sampling=sampling)
    engine.submit(asked)
    end = End("r", "stop", 2, 0, 1, 0, 259, TokenLogprobs(0.0, []))
    assert all_of(events, "r") == [PromptLogprobs("r", scores), end]
    engine.submit(replace(asked, id="only scored", max_tokens=0))
    only = End("only scored", "length", 2, 0, 0)
    assert all_of(events, "only scored") == [PromptLogprobs("only scored", scores), only]


def test_several_answers_are_the_same_and_each_ends(core: tuple[ScriptedCore, Events]) -> None:
    engine, events = core
    engine.submit(request("r", '{"say": "abc"}', n=3, logprobs=2))
    found: list[Event] = []
    while sum(isinstance(event, End) for event in found) < 3:
        found += events.get(timeout=60)
    for index in range(3):
        mine = [event for event in found if isinstance(event, Delta) and event.index == index]
        assert [event.token_ids for event in mine] == [[ord(each)] for each in "abc"]
        assert mine[0].logprobs == [TokenLogprobs(0.0, [(ord("a"), 0.0)])]
    assert {event.index for event in found if isinstance(event, End)} == {0, 1, 2}


def test_one_of_several_answers_that_fails_ends_them_all(core: tuple[ScriptedCore, Events]) -> None:
    engine, events = core
    engine.submit(request("r", '{"say": "abc", "fail_after": 1}', n=3))
    found: list[Event] = []
    while not found or not isinstance(found[-1], Failed):
        found += events.get(timeout=60)
    engine.submit(request("after", "hi"))
    assert said(all_of(events, "after")) == b"You said: hi"
    assert sum(isinstance(event, Failed) for event in found) == 1


def test_who_is_in_a_hurry_waits_for_nothing_that_runs_or_comes_later(core: tuple[ScriptedCore, Events]) -> None:
    engine, events = core
    engine.submit(request("runs", '{"say": "first", "rate": 0.01}'))
    engine.hurry()
    assert said(all_of(events, "runs")) == b"first"
    engine.submit(request("later", '{"say": "second", "pause": 3600}', deadline=time.monotonic() + 3600))
    assert said(all_of(events, "later")) == b"second"


def test_what_waits_longer_than_its_deadline_fails_and_an_aborted_one_is_silent(
    core: tuple[ScriptedCore, Events],
) -> None:
    engine, events = core
    for name in ("a", "b"):
        engine.submit(request(name, '{"say": "aa", "pause": 3600}'))
    engine.submit(request("late", "hi", deadline=time.monotonic() - 1))
    engine.submit(request("next", "hi"))
    engine.abort("a")
    late = all_of(events, "late")
    assert isinstance(late[-1], Failed)
    assert late[-1].kind == "deadline"
    assert said(all_of(events, "next")) == b"You said: hi"
    engine.abort("b")
