"""openai-node against the running service."""

import json
import shutil
from typing import Any

import pytest

from tests.service import Service
from tests.test_clients.surroundings import FOLDER, PROMPTS, TEXT, output_of, statuses_of, surroundings

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None or not (FOLDER / "node" / "node_modules" / "openai").exists(),
    reason="openai-node is not here: `make test` installs it where there are node 20 and npm",
)


@pytest.fixture(scope="module")
async def found(service: Service) -> Any:
    """What the program found: one run, since starting it takes longer than asking."""
    async with surroundings(service) as env:
        return await output_of(str(NODE), FOLDER / "node" / "openai_client.mjs", env=env)


async def test_whole_and_streamed_answers_are_the_same(found: Any) -> None:
    whole, streamed = found["whole"], found["streamed"]
    assert whole["text"] == streamed["text"] == streamed["helped"] == TEXT
    assert whole["usage"] == streamed["usage"]
    assert streamed["reason"] == "stop"
    assert len(whole["requestId"]) == 32
    assert whole["models"] == ["scripted"]


async def test_tools_are_called_and_answered(found: Any) -> None:
    called = found["called"]
    for call in called["calls"]:
        assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"city": "北京"})
    assert (called["reason"], called["answer"]) == ("tool_calls", "Sunny.")


async def test_errors_have_their_class_code_and_param(found: Any) -> None:
    errors = found["errors"]
    assert {status: (error["kind"], error["code"], error["param"]) for status, error in errors.items()} == {
        "400": ("BadRequestError", "invalid_value", "temperature"),
        "401": ("AuthenticationError", "invalid_api_key", None),
        "403": ("PermissionDeniedError", "insufficient_scope", None),
        "404": ("NotFoundError", "model_not_found", "model"),
        "409": ("ConflictError", "conversation_locked", None),
        "429": ("RateLimitError", "rate_limit_exceeded", None),
        "503": ("InternalServerError", "generation_failed", None),
    }
    assert {str(error["status"]) for error in errors.values()} == set(errors)
    assert all(len(error["requestID"]) == 32 for error in errors.values())


async def test_a_stream_that_breaks_off_is_an_error_and_not_an_end(found: Any) -> None:
    broken = found["brokenStream"]
    assert broken["text"] == "hel"
    assert [broken[how]["code"] for how in ("error", "helper")] == ["generation_failed"] * 2


async def test_it_tries_again_when_that_helps_and_only_then(found: Any) -> None:
    *refused, last = found["retried"]["statuses"]
    assert refused
    assert set(refused) == {429}
    assert last == 200
    assert found["retried"]["text"] == TEXT
    assert found["retriedInVain"] == {"attempts": 1, "kind": "RateLimitError"}


async def test_whoever_leaves_stops_the_answer(service: Service, found: Any) -> None:
    # The second is the one that made room for another.
    assert await statuses_of(service, PROMPTS["LONG"]) == ["cancelled"] * 2
