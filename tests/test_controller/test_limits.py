"""Limits and usage as callers meet them: refused before any byte, told honestly, counted to the token."""

import asyncio
import csv
import io
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from database.clock import now
from database.identifier import new_id
from database.models import Limit
from services.inference.engine import GenerationRequest
from services.limit_service import Limits, LimitService
from services.tenant_service import TenantService
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, running_service, script, stream

_USAGE = "/v1/usage"


async def _limit(service: Service, limits: Limits) -> None:
    await LimitService(service.database).set(TESTER, service.our_id, limits)


async def _ask(client: httpx2.AsyncClient, say: str = "hi", **body: Any) -> httpx2.Response:
    return await client.post(NEW_MESSAGE, json={"prompt": script(say), **body})


async def _rows(client: httpx2.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    response = await client.get(_USAGE, params=params)
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["data"]
    return rows


@pytest.mark.parametrize("streamed", [False, True])
async def test_of_64_clients_at_once_on_a_budget_of_one_request_exactly_one_passes(
    service: Service, streamed: bool
) -> None:
    # Enough for what one request may take, not for that and what another one took.
    await _limit(service, Limits(tokens_per_month=80))
    answers = await asyncio.gather(*(_ask(service.ours, stream=streamed, max_tokens=50) for _ in range(64)))
    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 63
    (log,) = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    assert log["response"] == "hi"
    assert {answer.headers["content-type"] for answer in answers if answer.status_code == 429} == {"application/json"}


async def test_an_answer_tells_what_is_left_streamed_or_not(service: Service) -> None:
    await _limit(service, Limits(requests_per_minute=100, tokens_per_minute=100_000))
    whole = await _ask(service.ours, max_tokens=50)
    async with service.ours.stream("POST", NEW_MESSAGE, json={"prompt": "hi", "stream": True}) as streamed:
        assert streamed.status_code == 200
    events = await service.ours.post(NEW_MESSAGE, json={"prompt": "hi"}, headers={"Accept": "text/event-stream"})
    remaining = []
    for answer in (whole, streamed, events):
        assert answer.headers["x-ratelimit-limit-requests"] == "100"
        assert answer.headers["x-ratelimit-limit-tokens"] == "100000"
        assert 0 < int(answer.headers["x-ratelimit-reset-requests"].removesuffix("ms")) <= 60_000
        assert 0 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 100_000
        remaining.append(int(answer.headers["x-ratelimit-remaining-requests"]))
    # Unless a minute ended in between.
    assert remaining in ([99, 98, 97], [99, 98, 99], [99, 99, 98])
    assert not [name for name in (await _ask(service.theirs)).headers if name.startswith("x-ratelimit")]


_PROMPTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": script("hi")}], "max_tokens": 50},
    "/v1/responses": {"input": script("hi"), "max_output_tokens": 50},
    "/v1/completions": {"prompt": [script("hi"), script("you")], "max_tokens": 50},
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("route", _PROMPTS)
async def test_every_route_that_asks_the_model_tells_what_is_left(service: Service, route: str, streamed: bool) -> None:
    await _limit(service, Limits(requests_per_minute=100, tokens_per_minute=100_000))
    body = {"model": "scripted", "stream": streamed, **_PROMPTS[route]}
    answer = await service.ours.post(route, json=body)
    assert answer.status_code == 200, answer.text
    told = answer.headers
    assert told["content-type"].startswith("text/event-stream") == streamed
    assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-limit-tokens"]) == ("100", "100000")
    # Each of two prompts is a request.
    assert told["x-ratelimit-remaining-requests"] == ("98" if route == "/v1/completions" else "99")
    # What it may say counts until it has said it.
    assert 100_000 - 300 < int(told["x-ratelimit-remaining-tokens"]) < 100_000 - 50
    for name in ("requests", "tokens"):
        assert 0 < int(told[f"x-ratelimit-reset-{name}"].removesuffix("ms")) <= 60_000
    theirs = await service.theirs.post(route, json=body)
    assert theirs.status_code == 200
    assert not [name for name in theirs.headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("route", [NEW_MESSAGE, *_PROMPTS])
async def test_a_turn_that_was_charged_and_failed_tells_what_is_left_streamed_or_not(
    service: Service, route: str, keyed: bool
) -> None:
    await _limit(service, Limits(requests_per_minute=100, tokens_per_minute=100_000))
    fails = script("hi", fail_after=1)
    prompts: dict[str, dict[str, Any]] = {
        NEW_MESSAGE: {"prompt": fails},
        "/v1/chat/completions": {"model": "scripted", "messages": [{"role": "user", "content": fails}]},
        "/v1/responses": {"model": "scripted", "input": fails},
        "/v1/completions": {"model": "scripted", "prompt": fails},
    }
    told = []
    for streamed in (True, False):
        headers = {"Idempotency-Key": new_id()} if keyed else {}
        answer = await service.ours.post(route, json={"stream": streamed, **prompts[route]}, headers=headers)
        assert answer.status_code == (200 if streamed else 503), answer.text
        assert answer.headers["x-ratelimit-limit-requests"] == "100"
        told.append({name for name in answer.headers if name.startswith("x-ratelimit")})
    assert told[0] == told[1]
    # What was not charged, such as a body that is refused, says nothing of limits; nor does whom nothing limits.
    refused = await service.ours.post(route, json={"model": 1})
    theirs = await service.theirs.post(route, json=prompts[route])
    assert (refused.status_code, theirs.status_code) == (400, 503)
    assert not [name for answer in (refused, theirs) for name in answer.headers if name.startswith("x-ratelimit")]


async def test_a_refusal_has_the_envelope_and_an_honest_retry_after(service: Service) -> None:
    await _limit(service, Limits(requests_per_minute=1, tokens_per_minute=1000))
    while (refused := await _ask(service.ours, max_tokens=10)).status_code != 429:
        pass
    error = refused.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("rate_limit_exceeded", "rate_limit_error", None)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert int(refused.headers["retry-after-ms"]) <= 60_000
    assert "x-should-retry" not in refused.headers
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    # What was refused was not charged.
    assert int(refused.headers["x-ratelimit-remaining-tokens"]) > 900


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "name", ["requests_per_minute", "turns_at_once", "tokens_per_minute", "tokens_per_day", "tokens_per_month"]
)
async def test_whom_a_limit_allows_nothing_is_told_that_waiting_is_in_vain(
    service: Service, name: str, streamed: bool
) -> None:
    await _limit(service, Limits(**{name: 0}))
    in_vain = await _ask(service.ours, stream=streamed)
    assert in_vain.status_code == 429
    assert in_vain.headers["x-should-retry"] == "false"
    assert not [header for header in in_vain.headers if header.startswith("retry-after")]
    assert (await _ask(service.theirs)).status_code == 200


async def test_a_refused_turn_leaves_no_row_and_gives_its_place_in_the_engine_back(service: Service) -> None:
    await _limit(service, Limits(turns_at_once=0))
    assert {(await _ask(service.ours)).status_code for _ in range(20)} == {429}
    assert (await service.ours.get("/chat/get/messages/")).json()["messages"] == []
    await _limit(service, Limits())
    assert (await _ask(service.ours)).status_code == 200
    assert [row["requests"] for row in await _rows(service.ours)] == [1]


async def test_a_client_that_leaves_gives_its_place_back_and_pays_what_was_said(service: Service) -> None:
    await _limit(service, Limits(turns_at_once=1, tokens_per_month=10_000))
    body = {"prompt": script("a" * 500, rate=50), "stream": True, "max_tokens": 600}
    async with service.ours.stream("POST", NEW_MESSAGE, json=body) as response:
        # Kept: a response is closed together with what reads it.
        lines = response.aiter_lines()
        await anext(lines)
        assert (await _ask(service.ours)).status_code == 429
    while (answer := await _ask(service.ours, max_tokens=10)).status_code == 429:
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    messages = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    assert sorted(message["status"] for message in messages) == ["cancelled", "completed"]
    (row,) = await _rows(service.ours)
    (kept,) = await LimitService(service.database).of_tenant(service.our_id)
    limit = kept.row
    assert row["completion_tokens"] == sum(message["completion_tokens"] for message in messages) < 500
    assert row["total_tokens"] == limit.month_tokens
    assert (row["requests"], row["cancelled"], row["failed"], limit.running) == (2, 1, 0, 0)


async def test_usage_is_added_up_by_day_key_and_model(service: Service) -> None:
    for say in ("one", "three"):
        await _ask(service.ours, say)
    await stream(service.ours, script("x", fail_after=0))
    messages = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    (row,) = await _rows(service.ours)
    assert (row["day"], row["model"]) == (now().date().isoformat(), "scripted")
    assert (row["requests"], row["failed"], row["cancelled"]) == (3, 1, 0)
    for name in ("prompt_tokens", "completion_tokens"):
        assert row[name] == sum(message[name] for message in messages)
    assert row["duration_ms"] >= row["first_token_ms"] >= 0
    assert await _rows(service.ours, key=row["key"], model="scripted", since=row["day"], until=row["day"]) == [row]
    (total,) = await _rows(service.ours, group_by="model")
    assert (total["day"], total["key"], total["requests"]) == (None, None, 3)
    for empty in (
        {"key": new_id()},
        {"model": "other"},
        {"since": "2020-01-01", "until": "2020-01-02"},
        {"until": "0001-01-01"},
    ):
        assert await _rows(service.ours, **empty) == []
    assert await _rows(service.theirs) == []


async def test_usage_comes_as_csv_when_it_is_asked_for(service: Service) -> None:
    await _ask(service.ours)
    (row,) = await _rows(service.ours)
    for answer in (
        await service.ours.get(_USAGE, params={"format": "csv"}),
        await service.ours.get(_USAGE, headers={"Accept": "text/csv"}),
    ):
        assert answer.headers["content-type"].startswith("text/csv")
        (read,) = csv.DictReader(io.StringIO(answer.text))
        assert read == {name: str(value) for name, value in row.items()}
    whatever = await service.ours.get(_USAGE, params={"format": "json"}, headers={"Accept": "text/csv"})
    assert whatever.json()["data"] == [row]


@pytest.mark.parametrize(
    "params",
    [
        {"since": "2026-01-02", "until": "2026-01-01"},
        {"since": "2020-01-01", "until": "2026-01-01"},
        {"since": "0001-01-01"},
        {"since": "yesterday"},
        {"group_by": "tenant"},
        {"format": "xml"},
        {"tenant": "theirs"},
    ],
)
async def test_a_question_about_usage_that_makes_no_sense_is_refused(service: Service, params: dict[str, str]) -> None:
    response = await service.ours.get(_USAGE, params=params)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_value"


async def test_a_tenant_at_its_ceiling_of_places_is_refused_before_any_byte_and_nobody_else_is(
    service: Service,
) -> None:
    url = f"/admin/v1/tenants/{service.our_id}"
    assert (await service.admin.post(url, json={"max_places": 2})).status_code == 200
    body = {"prompt": script("a" * 500, rate=50), "stream": True, "max_tokens": 600}
    async with AsyncExitStack() as running:
        for _ in range(2):
            response = await running.enter_async_context(service.ours.stream("POST", NEW_MESSAGE, json=body))
            assert response.status_code == 200
        for streamed in (False, True):
            refused = await _ask(service.ours, stream=streamed)
            assert (refused.status_code, refused.headers["content-type"]) == (429, "application/json")
            error = refused.json()["error"]
            assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
            assert "2 places" in error["message"]
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert "x-should-retry" not in refused.headers
        assert (await _ask(service.theirs)).status_code == 200
    statuses = {message["status"] for message in (await service.ours.get("/chat/get/messages/")).json()["messages"]}
    assert statuses <= {"running", "cancelled"}
    while (await _ask(service.ours)).status_code == 429:
        pass


async def test_a_tenants_weight_goes_to_the_engine(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[GenerationRequest] = []
    submit = service.core.submit

    def note(request: GenerationRequest) -> None:
        seen.append(request)
        submit(request)

    monkeypatch.setattr(service.core, "submit", note)
    await TenantService(service.database).change(TESTER, service.our_id, weight=2.5)
    await _ask(service.ours)
    await _ask(service.theirs)
    assert [request.weight for request in seen] == [2.5, 1.0]


async def test_who_waited_for_a_place_in_vain_has_used_nothing(database_url: str, tmp_path: Path) -> None:
    # Nobody gets a place so fast.
    async with running_service(database_url, tmp_path, queue_seconds=1e-6) as service:
        await _limit(service, Limits(tokens_per_month=10_000))
        refused = await service.ours.post(NEW_MESSAGE, json={"prompt": "a prompt " * 100})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "deadline")
        (entry,) = (await service.ours.get("/chat/get/messages/")).json()["messages"]
        assert (entry["status"], entry["prompt_tokens"]) == ("failed", 0)
        (usage,) = (await service.ours.get("/v1/usage", params={"group_by": "model"})).json()["data"]
        assert (usage["requests"], usage["failed"], usage["total_tokens"]) == (1, 1, 0)
        async with service.database.begin(service.our_id) as session:
            limits = await session.get_one(Limit, (service.our_id, service.our_id))
        assert (limits.month_tokens, limits.running) == (0, 0)
