"""Simon Willison's `llm` against the running service, as its users set it up."""

import asyncio
import json
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

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
    """Starts it with these arguments, with our model and our key unless they name others."""
    ours: dict[str, Any] = {"model_name": MODEL, "api_base": f"{service.url}/v1", "api_key_name": "ours"}
    ours |= {"supports_tools": True, "supports_schema": True}
    models = {
        "ours": ours,
        "strange": ours | {"model_name": "gpt-4"},
        "keyed": ours | {"headers": {"Idempotency-Key": "the-same-for-every-prompt"}},
    }
    # JSON is YAML.
    listed = json.dumps([{"model_id": name} | model for name, model in models.items()])
    (tmp_path / "extra-openai-models.yaml").write_text(listed)
    async with surroundings(service) as env:

        async def start(*arguments: str, key: str = "KEY", model: str = "ours") -> Process:
            own = {"PATH": os.environ["PATH"], "LLM_USER_PATH": str(tmp_path), "PYTHONUNBUFFERED": "1"}
            command = [str(PYTHON.with_name("llm")), "-m", model, "--key", env.get(key, key), *arguments]
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


async def told(process: Process) -> str:
    """What it tells of an error."""
    _, stderr = await process.communicate()
    assert process.returncode != 0
    return stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "where", "reason"),
    [
        (("hi", "-o", "top_p", "0"), {}, "Error code: 400 - top_p"),
        (("hi",), {"key": "sk-nonsense"}, "Error code: 401"),
        (("hi",), {"model": "strange"}, "Error code: 404"),
        (("hi", "--no-stream"), {"key": "USED_UP_KEY"}, "limit of 5 tokens per month"),
        ((PROMPTS["BREAKING"],), {}, "The script says so"),
    ],
    ids=["400", "401", "404", "429", "broken stream"],
)
async def test_what_goes_wrong_is_told_and_is_no_success(
    llm: Llm, arguments: tuple[str, ...], where: dict[str, str], reason: str
) -> None:
    assert reason in await told(await llm(*arguments, **where))


async def test_another_prompt_under_one_idempotency_key_is_a_conflict(llm: Llm) -> None:
    assert await said(await llm(PROMPTS["SAY"], model="keyed")) == TEXT
    assert "Error code: 409 - Another request" in await told(await llm("hi", model="keyed"))


async def test_what_broke_is_tried_again_until_it_gives_up(service: Service, llm: Llm) -> None:
    before = await statuses_of(service, PROMPTS["BREAKING"])
    assert "Error code: 503 - The script says so" in await told(await llm(PROMPTS["BREAKING"], "--no-stream"))
    assert await statuses_of(service, PROMPTS["BREAKING"]) == [*before, *["failed"] * 3]


async def test_whoever_interrupts_it_stops_the_answer(service: Service, llm: Llm) -> None:
    process = await llm(PROMPTS["LONG"])
    assert process.stdout is not None
    assert await process.stdout.readexactly(1) == b"a"
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert await statuses_of(service, PROMPTS["LONG"]) == ["cancelled"]
