"""What openai-python does by itself: it tries again, gives up, leaves; and its helpers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.openai_clients import MODEL, WEATHER, asking, async_client, key_of
from tests.service import NEW_MESSAGE, Service
from tests.test_clients.surroundings import PROMPTS, TEXT, statuses_of, surroundings


class City(BaseModel):
    """What a city is."""

    city: str
    large: bool


class Attempts:
    """Counts the answers of a client's attempts, and lets somebody else know of each refusal."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.refused = asyncio.Event()

    async def __call__(self, response: httpx2.Response) -> None:
        self.statuses.append(response.status_code)
        if response.status_code == 429:
            self.refused.set()


@pytest.fixture
async def env(service: Service) -> AsyncIterator[dict[str, str]]:
    async with surroundings(service) as env:
        yield env


def counted(service: Service, key: str, attempts: Attempts) -> AsyncOpenAI:
    http = httpx2.AsyncClient(event_hooks={"response": [attempts]})
    return async_client(service, api_key=key, max_retries=5, http_client=http)


async def test_a_limit_that_passes_is_waited_for(service: Service, env: dict[str, str]) -> None:
    attempts, key = Attempts(), env["ONE_AT_ONCE_KEY"]
    asked: Any = asking(PROMPTS["LONG"], stream=True)
    async with async_client(service, api_key=key) as first, counted(service, key, attempts) as second:
        running = await first.chat.completions.create(**asked)
        waiting = asyncio.create_task(second.chat.completions.create(**asking(PROMPTS["SAY"])))
        await attempts.refused.wait()
        await running.close()
        answer = await waiting
    assert answer.choices[0].message.content == TEXT
    assert attempts.statuses == [429] * (len(attempts.statuses) - 1) + [200]
    assert await statuses_of(service, PROMPTS["LONG"]) == ["cancelled"]


async def test_a_limit_that_does_not_pass_is_told_at_once(service: Service, env: dict[str, str]) -> None:
    attempts = Attempts()
    async with counted(service, env["USED_UP_KEY"], attempts) as client:
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(**asking("hi"))
    assert attempts.statuses == [429]
    assert limited.value.request_id


async def test_what_broke_is_tried_again_as_often_as_the_client_likes(service: Service, env: dict[str, str]) -> None:
    def ask() -> None:
        with OpenAI(base_url=f"{service.url}/v1", api_key=key_of(service), max_retries=1) as client:
            client.chat.completions.create(**asking(PROMPTS["BREAKING"]))

    with pytest.raises(openai.InternalServerError):
        await asyncio.to_thread(ask)
    assert await statuses_of(service, PROMPTS["BREAKING"]) == ["failed"] * 2


async def test_the_client_without_coroutines_answers_as_the_other_does(service: Service, env: dict[str, str]) -> None:
    def ask() -> None:
        asked: Any = asking(PROMPTS["SAY"])
        with OpenAI(base_url=f"{service.url}/v1", api_key=key_of(service), max_retries=0) as client:
            whole = client.chat.completions.create(**asked).choices[0].message.content
            chunks = client.chat.completions.create(**asked, stream=True)
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert whole == streamed == TEXT
            called = client.chat.completions.create(**asking(PROMPTS["CALL"], tools=[WEATHER])).choices[0].message
            assert called.tool_calls is not None
            with client.chat.completions.create(**asking(PROMPTS["LONG"], stream=True)) as long:
                assert next(chunk for chunk in long if chunk.choices[0].delta.content)
            refused: list[tuple[type[openai.APIStatusError], dict[str, Any], dict[str, Any]]] = [
                (openai.BadRequestError, {}, {"temperature": 3}),
                (openai.AuthenticationError, {"api_key": "sk-nonsense"}, {}),
                (openai.NotFoundError, {}, {"model": "gpt-4"}),
                (openai.RateLimitError, {"api_key": env["USED_UP_KEY"]}, {}),
            ]
            for kind, options, fields in refused:
                with pytest.raises(kind):
                    client.with_options(**options).chat.completions.create(**asked | fields)
            with pytest.raises(openai.ConflictError):
                client.responses.create(model=MODEL, input="hi", conversation=env["CONVERSATION"])

    before = await statuses_of(service, PROMPTS["LONG"])
    await asyncio.to_thread(ask)
    assert await statuses_of(service, PROMPTS["LONG"]) == ["cancelled", *before]


async def test_a_missing_scope_and_a_running_turn_have_their_own_errors(service: Service, env: dict[str, str]) -> None:
    async with async_client(service, api_key=env["POWERLESS_KEY"]) as client:
        with pytest.raises(openai.PermissionDeniedError) as powerless:
            await client.chat.completions.create(**asking("hi"))
    body = {"prompt": "hi", "conversation_id": env["CONVERSATION"]}
    async with async_client(service) as client:
        with pytest.raises(openai.ConflictError) as running:
            await client.post(f"{service.url}{NEW_MESSAGE}", cast_to=httpx2.Response, body=body)
    assert (powerless.value.code, running.value.code) == ("insufficient_scope", "conversation_locked")
    assert running.value.response.headers["retry-after"] == "1"


async def test_the_helpers_parse_what_they_asked_for_whole_and_streamed(service: Service) -> None:
    asked: Any = {"model": MODEL, "messages": asking(PROMPTS["JSON"])["messages"], "response_format": City}
    async with async_client(service) as client:
        whole = await client.chat.completions.parse(**asked)
        async with client.chat.completions.stream(**asked) as events:
            streamed = await events.get_final_completion()
    assert whole.choices[0].message.parsed == streamed.choices[0].message.parsed == City(city="Rome", large=True)
