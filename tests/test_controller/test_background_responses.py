"""Responses in the background with the official client: asked for, listened to again, cancelled."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from app.settings import Settings
from tests.openai_clients import MODEL, async_client
from tests.service import SECRET, Service, running_app, script
from tests.test_controller.test_response_tools import WEATHER

RESPONSES = "/v1/responses"
TEXT = "你好 👩‍🚀, ça va? "


async def begin(client: AsyncOpenAI, prompt: str, **fields: Any) -> Any:
    return await client.responses.create(**{"model": MODEL, "input": prompt, "background": True, **fields})


async def ended(client: AsyncOpenAI, response_id: str) -> Any:
    async with asyncio.timeout(60):
        while (response := await client.responses.retrieve(response_id)).status == "in_progress":
            pass
    return response


async def heard(client: AsyncOpenAI, response_id: str, after: int | None = None) -> list[Any]:
    fields: dict[str, Any] = {} if after is None else {"starting_after": after}
    async with await client.responses.retrieve(response_id, stream=True, **fields) as events:
        return [event async for event in events]


def put_together(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def test_a_background_response_is_answered_at_once_and_read_when_it_has_ended(service: Service) -> None:
    async with async_client(service) as client:
        begun = await begin(client, script(TEXT, rate=200), instructions="Be brief.", metadata={"run": "7"})
        assert (begun.status, begun.background, begun.output, begun.store) == ("in_progress", True, [], True)
        response = await ended(client, begun.id)
        assert (response.status, response.output_text, response.metadata) == ("completed", TEXT, {"run": "7"})
        last = (await heard(client, begun.id))[-1]
        assert (last.type, last.response) == ("response.completed", response)
        following = await client.responses.create(model=MODEL, input=script("on"), previous_response_id=begun.id)
    assert following.output_text == "on"
    newest, oldest = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    assert (oldest["response"], newest["response"]) == (TEXT, "on")


async def test_a_stream_that_is_cut_goes_on_where_it_was(service: Service) -> None:
    async with async_client(service) as client:
        seen: list[Any] = []
        async with await begin(client, script(TEXT * 3, rate=150), stream=True) as events:
            async for event in events:
                seen.append(event)
                if len(put_together(seen)) > 5:
                    break
        response_id = seen[0].response.id
        # Again and again, while it runs.
        for more in (10, 20, 30):
            last = seen[-1].sequence_number
            async with await client.responses.retrieve(response_id, stream=True, starting_after=last) as events:
                async for event in events:
                    seen.append(event)
                    if len(put_together(seen)) > more:
                        break
        seen += await heard(client, response_id, seen[-1].sequence_number)
        whole = await heard(client, response_id)
    assert put_together(seen) == put_together(whole) == TEXT * 3
    numbers = [event.sequence_number for event in seen]
    assert numbers == sorted(set(numbers))
    plain = [event for event in seen if event.type != "response.output_text.delta"]
    assert [event for event in whole if event.type != "response.output_text.delta"] == plain


async def test_every_number_is_a_place_to_go_on_from(sqlite_service: Service) -> None:
    async with async_client(sqlite_service) as client:
        begun = await begin(client, script(TEXT))
        await ended(client, begun.id)
        whole = await heard(client, begun.id)
        for after in range(whole[-1].sequence_number + 2):
            rest = await heard(client, begun.id, after)
            assert put_together(rest) == TEXT[max(0, after - 3) :]
            kinds = [(event.type, event.sequence_number) for event in whole if event.sequence_number > after]
            assert [(event.type, event.sequence_number) for event in rest] == kinds
        async with client.responses.stream(response_id=begun.id, starting_after=0) as events:
            assert (await events.get_final_response()).output_text == TEXT


async def test_a_background_response_is_cancelled_with_what_it_has_said(service: Service) -> None:
    async with async_client(service) as client:
        async with await begin(client, script("abc" * 300, rate=50), stream=True) as stream:
            events = aiter(stream)
            response_id = (await anext(events)).response.id
            async for event in events:
                if event.type == "response.output_text.delta":
                    break
            cancelled: Any = await client.responses.cancel(response_id)
            *_, last = [event async for event in events]
        assert (last.type, last.code) == ("error", "turn_cancelled")
        assert cancelled.status == "cancelled"
        assert len("abc" * 300) > len(cancelled.output_text) > 0
        assert cancelled.output[0].status == "incomplete"
        assert await client.responses.cancel(response_id) == cancelled
        assert put_together(await heard(client, response_id)) == cancelled.output_text


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_another_replica_tells_of_it_and_cancels_it(service: Service, database_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=database_url, secret=SECRET.decode(), data_dir=tmp_path / "other")
    async with (
        running_app(settings, tmp_path / "engine.sock", instance="1" * 32) as url,
        async_client(service) as client,
        async_client(service, base_url=f"{url}/v1") as elsewhere,
    ):
        finished = await begin(client, script(TEXT * 5, rate=200))
        assert put_together(await heard(elsewhere, finished.id)) == TEXT * 5
        assert await ended(elsewhere, finished.id) == await client.responses.retrieve(finished.id)
        endless = await begin(client, script("a" * 1000, rate=20))
        assert (await elsewhere.responses.cancel(endless.id)).status == "cancelled"
        assert (await client.responses.retrieve(endless.id)).status == "cancelled"


async def test_what_cannot_be_told_again_does_not_run_in_the_background(sqlite_service: Service) -> None:
    async with async_client(sqlite_service) as client:
        wrong: list[dict[str, Any]] = [
            {"store": False},
            {"tools": [WEATHER]},
            {"include": ["message.output_text.logprobs"]},
        ]
        for fields in wrong:
            with pytest.raises(BadRequestError) as refused:
                await begin(client, "hi", **fields)
            assert refused.value.param == "background"
        plain = await client.responses.create(model=MODEL, input=script("one"))
        with pytest.raises(BadRequestError):
            await client.responses.cancel(plain.id)
        with pytest.raises(BadRequestError) as unheard:
            await heard(client, plain.id)
        assert unheard.value.param == "stream"
        for query in ({"starting_after": 1}, {"stream": "true", "starting_after": -1}):
            path = f"{RESPONSES}/{plain.id}"
            refusal = await sqlite_service.ours.get(path, params={name: str(value) for name, value in query.items()})
            assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, "starting_after")


async def test_a_background_response_of_another_tenant_is_not_there(sqlite_service: Service) -> None:
    async with async_client(sqlite_service) as client:
        begun = await begin(client, script("secret", pause=3600))
        theirs = sqlite_service.theirs.headers["authorization"].removeprefix("Bearer ")
        async with async_client(sqlite_service, api_key=theirs) as other:
            for attempt in (other.responses.retrieve, other.responses.cancel, other.responses.delete):
                with pytest.raises(NotFoundError):
                    await attempt(begun.id)
            with pytest.raises(NotFoundError):
                await heard(other, begun.id)
        assert (await client.responses.retrieve(begun.id)).status == "in_progress"
        await client.responses.cancel(begun.id)
