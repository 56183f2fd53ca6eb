"""Responses with openai-node: shown, streamed, gone on from, called, formatted, in the background."""

import json
from typing import Any

import pytest

from tests.service import Service
from tests.test_clients.surroundings import FOLDER, PROMPTS, TEXT, output_of, surroundings
from tests.test_clients.test_openai_node import NODE
from tests.test_clients.test_openai_node import pytestmark as pytestmark  # noqa: PLC0414 - the same condition


@pytest.fixture(scope="module")
async def found(service: Service) -> Any:
    """What the program found: one run, since starting it takes longer than asking."""
    async with surroundings(service) as env:
        return await output_of(str(NODE), FOLDER / "node" / "openai_responses.mjs", env=env)


async def test_a_response_is_shown_listed_counted_and_erased(found: Any) -> None:
    whole = found["whole"]
    assert (whole["text"], whole["same"], whole["items"]) == (TEXT, True, [PROMPTS["SAY"]])
    assert whole["gone"] == "response_not_found"
    assert whole["tokens"][0] == whole["tokens"][1] > 0


async def test_streams_and_their_helper_say_the_same(found: Any) -> None:
    streamed = found["streamed"]
    assert streamed["text"] == streamed["helped"] == TEXT
    assert (streamed["kinds"][0], streamed["kinds"][-1]) == ("response.created", "response.completed")
    assert found["broken"] == "response.failed"


async def test_tools_go_round_and_chains_go_on(found: Any) -> None:
    called = found["called"]
    assert (called["name"], json.loads(called["arguments"])) == ("get_weather", {"city": "北京"})
    assert (called["answer"], called["without"]) == ("Sunny.", 400)
    assert found["chained"] == [f"answer {at}" for at in range(20)]


async def test_a_format_is_parsed(found: Any) -> None:
    assert found["formatted"] == {"city": "Rome", "large": True}


async def test_a_background_response_goes_on_and_is_cancelled(found: Any) -> None:
    assert found["inBackground"] == {"text": TEXT, "statuses": ["in_progress", "cancelled"]}
