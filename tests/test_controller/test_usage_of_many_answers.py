"""Usage and limits are the log's sums also where a request is several answers, several turns, or goes on unheard."""

import asyncio
from typing import Any

import httpx2

from services.limit_service import Limits, LimitService
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, script

_MODEL = "scripted"


async def _log(service: Service) -> list[dict[str, Any]]:
    """Our tenant's history, once nothing runs any more."""
    async with asyncio.timeout(60):
        while True:
            answer = await service.ours.get("/chat/get/messages/", params={"limit": 100})
            messages: list[dict[str, Any]] = answer.json()["messages"]
            if all(message["status"] != "running" for message in messages):
                return messages
            await asyncio.sleep(0)


async def _assert_all_agree(service: Service, turns: int) -> None:
    messages = await _log(service)
    (row,) = (await service.ours.get("/v1/usage")).json()["data"]
    (kept,) = await LimitService(service.database).of_tenant(service.our_id)
    tokens = {name: sum(message[name] for message in messages) for name in ("prompt_tokens", "completion_tokens")}
    states = [message["status"] for message in messages]
    assert len(messages) == row["requests"] == turns
    assert {name: row[name] for name in tokens} == tokens
    assert (row["cancelled"], row["failed"]) == (states.count("cancelled"), states.count("failed"))
    assert (kept.row.running, kept.row.day_tokens, kept.row.month_tokens) == (0, *[sum(tokens.values())] * 2)


async def _limit(service: Service) -> None:
    limits = Limits(requests_per_minute=1000, turns_at_once=100, tokens_per_day=10**6, tokens_per_month=10**6)
    await LimitService(service.database).set(TESTER, service.our_id, limits)


async def _hear_a_little(client: httpx2.AsyncClient, route: str, body: dict[str, Any]) -> None:
    """Leave after the first event."""
    async with client.stream("POST", route, json={**body, "stream": True}) as response:
        lines = response.aiter_lines()
        await anext(lines)


async def test_several_answers_to_a_prompt_are_one_turn_with_the_tokens_of_all(service: Service) -> None:
    await _limit(service)
    said, long = script("three words here"), script("x", rate=50, repeat=1000)
    route, body = "/v1/chat/completions", {"model": _MODEL, "n": 3, "max_tokens": 500}
    for streamed in (False, True):
        messages = [{"role": "user", "content": said}]
        assert (await service.ours.post(route, json=body | {"messages": messages, "stream": streamed})).is_success
    await _hear_a_little(service.ours, route, body | {"messages": [{"role": "user", "content": long}]})
    log = await _log(service)
    assert [message["completion_tokens"] for message in log[1:]] == [3 * len("three words here" + ".")] * 2
    await _assert_all_agree(service, 3)


async def test_each_of_several_prompts_is_counted_however_the_request_ends(service: Service) -> None:
    await _limit(service)
    route, body = "/v1/completions", {"model": _MODEL, "n": 2, "max_tokens": 500}
    for streamed in (False, True):
        prompts = [script("one"), script("two, longer"), script("three")]
        assert (await service.ours.post(route, json=body | {"prompt": prompts, "stream": streamed})).is_success
    failing = [script("x", rate=50, repeat=1000), script("y", fail_after=0)]
    assert (await service.ours.post(route, json=body | {"prompt": failing})).status_code == 503
    await _hear_a_little(service.ours, route, body | {"prompt": [script("x", rate=50, repeat=1000)] * 2})
    await _assert_all_agree(service, 10)
    assert {message["status"] for message in await _log(service)} == {"completed", "failed", "cancelled"}


async def test_what_runs_unheard_is_counted_when_it_ends_or_is_cancelled(service: Service) -> None:
    await _limit(service)
    for prompt in (script("whole"), script("yes", fail_after=1)):
        begun = await service.ours.post(NEW_MESSAGE, json={"prompt": prompt, "background": True, "max_tokens": 50})
        assert begun.status_code == 202
    body = {"model": _MODEL, "input": script("x", rate=50, repeat=1000), "background": True}
    endless = (await service.ours.post("/v1/responses", json=body)).json()
    assert (await service.ours.post(f"/v1/responses/{endless['id']}/cancel")).json()["status"] == "cancelled"
    await _assert_all_agree(service, 3)
    assert {message["status"] for message in await _log(service)} == {"completed", "failed", "cancelled"}
