"""A required call: the engine's constraint lets the model write one, however the prompt begins it, and nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.inference.codec import Codec
from services.inference.constraint import check
from services.inference.engine import Constraint
from services.inference.native.constraint import Constraints
from services.inference.native.sequence import Matcher
from services.inference.prompt import load_prompt_renderer
from services.inference.tokenizer import load_tokenizer
from services.inference.tool import Tool, ToolUse

TOOLS = (Tool(name="get_weather"), Tool(name="get-time.now"))
ARGUMENTS = '{"city": "北京", "deep": {"a": [1]}}'
PYTHON = "```python\ntool_call(city='北京')\n```"
MODELS = ["chatglm3", "glm4", "glm4_hf", "qwen", "llama3"]


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def directory(name: str, request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(name)
    return found


@pytest.fixture
def codec(directory: Path) -> Codec:
    tokenizer = load_tokenizer(directory)
    return Codec(tokenizer, load_prompt_renderer(directory, tokenizer))


@pytest.fixture
def constraints(directory: Path, codec: Codec) -> Iterator[Constraints]:
    made = Constraints(directory, len(codec.tokenizer.token_bytes))
    yield made
    made.close()


def rest(name: str) -> str:
    """What follows the tool's name and what belongs to it."""
    return {"chatglm3": PYTHON, "qwen": ARGUMENTS + "}\n</tool_call>", "llama3": ARGUMENTS + "}"}.get(name, ARGUMENTS)


def whole(name: str) -> list[str]:
    """What follows the prompt where there is a choice of tools: texts that are encoded each by itself."""
    after = {"qwen": '", "arguments": ', "llama3": '", "parameters": '}.get(name)
    return ["get-time.now\n", rest(name)] if after is None else [f"get-time.now{after}{rest(name)}"]


def matcher_of(codec: Codec, constraints: Constraints, tools: ToolUse) -> Matcher:
    assert codec.renderer.calls is not None
    constraint = codec.renderer.calls.constraint(tools)
    assert constraint is not None
    return constraints.matcher(constraint).result()


def accepts(codec: Codec, matcher: Matcher, texts: list[str]) -> bool:
    """Whether these texts may be the answer, with a stop id at its end."""
    ids = [i for text in texts for i in codec.tokenizer.encode(text)]
    return all(matcher.accept(i) for i in ids) and (matcher.ended or matcher.accept(min(codec.tokenizer.stop_ids)))


def test_a_named_tool_is_called_and_nothing_else_is_said(name: str, codec: Codec, constraints: Constraints) -> None:
    tools = ToolUse(tools=TOOLS, named="get_weather")
    assert accepts(codec, matcher_of(codec, constraints, tools), [rest(name)])
    for other in ("Hello", rest(name)[:-9], ""):
        assert not accepts(codec, matcher_of(codec, constraints, tools), [other]), other


def test_one_of_the_tools_is_called_where_a_call_is_required(name: str, codec: Codec, constraints: Constraints) -> None:
    tools = ToolUse(tools=TOOLS, choice="required")
    assert accepts(codec, matcher_of(codec, constraints, tools), whole(name))
    for other in ("Hello", "\nHello", whole(name)[0].replace("time.now", "timexnow"), "get-time.now"):
        assert not accepts(codec, matcher_of(codec, constraints, tools), [other]), other


def test_a_free_answer_is_not_constrained(codec: Codec) -> None:
    assert codec.renderer.calls is not None
    assert codec.renderer.calls.constraint(ToolUse(tools=TOOLS)) is None
    assert codec.renderer.calls.constraint(ToolUse(tools=TOOLS, choice="none")) is None


STRICT = ToolUse(
    tools=(
        Tool(
            name="get_weather",
            parameters={
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"enum": [1, 3]}},
                "required": ["city", "days"],
                "additionalProperties": False,
            },
            strict=True,
        ),
        Tool(name="get-time.now"),
    ),
    choice="required",
)
KEPT = '{"city": "北京", "days": 3}'
BROKEN = [
    '{"city": "北京"}',
    '{"city": 1, "days": 3}',
    '{"city": "x", "days": 2}',
    '{"city": "x", "days": 1, "more": 1}',
]


def test_the_arguments_of_a_strict_tool_keep_to_its_schema(name: str, codec: Codec, constraints: Constraints) -> None:
    assert codec.renderer.calls is not None
    after = {"qwen": "}\n</tool_call>", "llama3": "}"}.get(name, "")
    between = {"qwen": '", "arguments": ', "llama3": '", "parameters": '}.get(name, "\n")
    for tools in (replace(STRICT, choice="auto", named="get_weather"), STRICT):
        constraint = codec.renderer.calls.strict_constraint(tools)
        if name == "chatglm3":
            # It writes Python, which no JSON schema describes.
            assert constraint is None
            continue
        assert constraint is not None
        check(constraint)

        def allowed(tool: str, arguments: str, tools: ToolUse = tools, constraint: Constraint = constraint) -> bool:
            before = "" if tools.forced else f"{tool}{between}"
            return accepts(codec, constraints.matcher(constraint).result(), [f"{before}{arguments}{after}"])

        assert allowed("get_weather", KEPT)
        assert not any(allowed("get_weather", broken) for broken in BROKEN)
        assert not allowed("other", KEPT) or tools.forced
        # The other tool's may be anything.
        assert allowed("get-time.now", BROKEN[0]) != bool(tools.forced)
    assert codec.renderer.calls.strict_constraint(replace(STRICT, choice="auto")) is None
