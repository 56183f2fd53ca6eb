"""Simon Willison's `llm` against the running service, as its users set it up."""

import asyncio
import json
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.openai_clients import MODEL
from tests.service import Service
from tests.test_clients.surroundings import (
    CALL,
    NO_ENVIRONMENT,
    PROMPTS,
    PYTHON,
    TEXT,
    statuses_of,
    surroundings,
)

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=NO_ENVIRONMENT)
# The engine plays what the tool says as its next script.
TOOL = 'def get_weather(city: str) -> str:\n    return \'{"say": "Sunny."}\'\n'
Llm = Callable[..., Awaitable[Process]]


@pytest.fixture
async def llm(service: Service, tmp_path: Path) -> AsyncIterator[Llm]:
    """Starts it with these arguments and, unless they name another, our key."""
    model = {"model_id": "ours", "model_name": MODEL, "api_base": f"{service.url}/v1", "api_key_name": "ours"}
    # JSON is YAML.
    listed = json.dumps([model | {"supports_tools": True, "supports_schema": True}])
    (tmp_path / "extra-openai-models.yaml").write_text(listed)
    async with surroundings(service) as env:

        async def start(*arguments: str, key: str = "KEY") -> Process:
            own = {"PATH": os.environ["PATH"], "LLM_USER_PATH": str(tmp_path), "PYTHONUNBUFFERED": "1"}
            command = [str(PYTHON.with_name("llm")), "-m", "ours", "--key", env.get(key, key), *arguments]
            return await asyncio.create_subprocess_exec(*command, env=own, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)

        yield start


async def said(process: Process) -> str:
    """What it prints when all goes well; its own line end aside."""
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    return stdout.decode().removesuffix("\n")


async def test_whole_and_streamed_answers_are_the_same(llm: Llm) -> None:
    assert await said(await llm(PROMPTS["SAY"])) == TEXT
    assert await said(await llm(PROMPTS["SAY"], "--no-stream")) == TEXT


async def test_tools_are_called_and_answered(llm: Llm) -> None:
    assert await said(await llm(json.dumps({"say": CALL}), "--functions", TOOL)) == "Sunny."


async def test_an_answer_may_have_a_schema(llm: Llm) -> None:
    answer = await said(await llm(PROMPTS["JSON"], "--schema", "city, large bool"))
    assert json.loads(answer) == {"city": "Rome", "large": True}


@pytest.mark.parametrize(
    ("arguments", "key", "told"),
    [
        (("hi",), "sk-nonsense", "A valid API key is required"),
        (("hi", "--no-stream"), "USED_UP_KEY", "limit of 5 tokens per month"),
        ((PROMPTS["BREAKING"],), "KEY", "The script says so"),
    ],
    ids=["unknown key", "limit", "broken stream"],
)
async def test_what_goes_wrong_is_told_and_is_no_success(
    llm: Llm, arguments: tuple[str, ...], key: str, told: str
) -> None:
    process = await llm(*arguments, key=key)
    _, stderr = await process.communicate()
    assert process.returncode != 0
    assert told in stderr.decode()


async def test_whoever_interrupts_it_stops_the_answer(service: Service, llm: Llm) -> None:
    process = await llm(PROMPTS["LONG"])
    assert process.stdout is not None
    assert await process.stdout.readexactly(1) == b"a"
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert await statuses_of(service, PROMPTS["LONG"]) == ["cancelled"]
