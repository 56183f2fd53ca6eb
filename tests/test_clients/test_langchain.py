"""langchain-openai against the running service."""

from typing import Any

import pytest

from tests.service import Service
from tests.test_clients.surroundings import (
    FOLDER,
    NO_ENVIRONMENT,
    PROMPTS,
    PYTHON,
    TEXT,
    output_of,
    statuses_of,
    surroundings,
)

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=NO_ENVIRONMENT)
ROME = {"city": "Rome", "large": True}


@pytest.fixture(scope="module")
async def found(service: Service) -> Any:
    """What the program found: one run, since starting it takes longer than asking."""
    async with surroundings(service) as env:
        return await output_of(PYTHON, FOLDER / "langchain_client.py", env=env)


async def test_whole_and_streamed_answers_are_the_same(found: Any) -> None:
    assert found["whole"]["text"] == found["streamed"]["text"] == TEXT
    assert found["whole"]["usage"] == found["streamed"]["usage"]
    assert found["whole"]["usage"]["output_tokens"] == len(TEXT.encode()) + 1
    assert found["whole"]["reason"] == "stop"
    assert found["streamed"]["chunks"] > 2


async def test_tools_are_called_and_answered(found: Any) -> None:
    assert found["called"] == {"calls": [{"city": "北京"}] * 2, "answer": "Sunny."}


async def test_structured_output_is_an_object_of_the_class(found: Any) -> None:
    assert found["structured"] == [ROME, ROME]


async def test_errors_have_their_class_code_and_param(found: Any) -> None:
    assert {status: (error["kind"], error["code"], error["param"]) for status, error in found["errors"].items()} == {
        "400": ("BadRequestError", "invalid_value", "temperature"),
        "401": ("AuthenticationError", "invalid_api_key", None),
        "403": ("PermissionDeniedError", "insufficient_scope", None),
        "404": ("NotFoundError", "model_not_found", "model"),
        "409": ("ConflictError", "conversation_locked", None),
        "429": ("RateLimitError", "rate_limit_exceeded", None),
        "503": ("InternalServerError", "generation_failed", None),
    }


async def test_a_stream_that_breaks_off_is_an_error_and_not_an_end(service: Service, found: Any) -> None:
    assert (found["broken"]["kind"], found["broken"]["code"]) == ("APIError", "generation_failed")
    # Two attempts of the whole answer, one of the stream: what has begun to stream cannot be tried again.
    assert await statuses_of(service, PROMPTS["BREAKING"]) == ["failed"] * 3


async def test_whoever_leaves_stops_the_answer(service: Service, found: Any) -> None:
    assert found["left"] == "a"
    assert await statuses_of(service, PROMPTS["LONG"]) == ["cancelled"]
