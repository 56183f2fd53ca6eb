"""What is stored, with openai-node: conversations with their items, and chat completions."""

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
        return await output_of(str(NODE), FOLDER / "node" / "openai_conversations.mjs", env=env)


async def test_a_conversation_is_spoken_in_read_from_both_ends_and_erased(found: Any) -> None:
    spoken = found["spoken"]
    texts = [*map(str, range(45)), TEXT]
    assert (spoken["oldest"], spoken["newest"]) == (texts, texts[::-1])
    assert (spoken["answered"], spoken["left"]) == ([True, True], True)
    assert spoken["metadata"] == [{"run": "7"}, {"by": "ann"}, {"by": "ann"}]
    assert (spoken["erased"], spoken["gone"]) == (True, "conversation_not_found")


async def test_a_conversation_in_which_a_turn_runs_is_locked(found: Any) -> None:
    assert found["locked"] == [409, "conversation_locked"]


async def test_stored_completions_are_listed_shown_labelled_and_erased(found: Any) -> None:
    kept = found["kept"]
    assert (kept["listed"], kept["none"], kept["same"]) == (True, [], True)
    assert kept["messages"] == [PROMPTS["SAY"]]
    assert (kept["metadata"], kept["erased"], kept["gone"]) == ({}, True, 404)
