"""Several callers who wait for one answer under an idempotency key: each is answered as its own API key is."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from database.clock import now
from database.models import IdempotencyKey
from services.limit_service import Limits, LimitService
from services.recording import AnswerHead, Recording
from tests.claims import KEY, claim_elsewhere, die_elsewhere, until_waited_for
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, client, script

_BODY = {"prompt": "hi"}


async def _ask(caller: httpx2.AsyncClient, **fields: Any) -> httpx2.Response:
    return await caller.post(NEW_MESSAGE, json=_BODY | fields, headers={"Idempotency-Key": KEY})


async def _listened(service: Service, answer: httpx2.Response) -> int:
    """How somebody without a key is answered who listens where this answer says."""
    assert answer.status_code == 202, answer.text
    return (await service.nobody.get(answer.json()["stream_url"])).status_code


async def _revoke(service: Service, key_id: str) -> None:
    await service.keys.revoke(TESTER, service.our_id, key_id)


async def _bar_from_chat(service: Service, key_id: str) -> None:
    await service.keys.change(TESTER, service.our_id, key_id, scopes=[])


async def _bar_from_the_model(service: Service, key_id: str) -> None:
    await service.keys.change(TESTER, service.our_id, key_id, models=["another"])


async def _limit(service: Service, key_id: str) -> None:
    await LimitService(service.database).set(TESTER, service.our_id, Limits(tokens_per_day=0), key_id=key_id)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    """For each caller that waits for an answer, what it waits for."""
    heard: list[Recording] = []
    head = Recording.head

    async def noted(self: Recording) -> AnswerHead:
        heard.append(self)
        return await head(self)

    monkeypatch.setattr(Recording, "head", noted)
    return heard


@pytest.mark.parametrize(
    ("refuse", "status"), [(_revoke, 401), (_bar_from_chat, 403), (_bar_from_the_model, 404), (_limit, 429)]
)
async def test_who_joins_is_not_refused_for_the_key_of_who_came_first(
    sqlite_service: Service, waiting: list[Recording], refuse: Callable[[Service, str], Awaitable[Any]], status: int
) -> None:
    made = await sqlite_service.keys.create(TESTER, sqlite_service.our_id)
    await _ask(sqlite_service.ours)
    await claim_elsewhere(sqlite_service)
    waiting.clear()
    async with client(sqlite_service.url, made.secret) as first:
        refused = [asyncio.create_task(_ask(first))]
        await until_waited_for(sqlite_service)
        refused.append(asyncio.create_task(_ask(first)))
        joined = [asyncio.create_task(_ask(sqlite_service.ours)) for _ in range(2)]
        async with asyncio.timeout(60):
            while len(waiting) < 4:
                await asyncio.sleep(0)
        assert len(set(map(id, waiting))) == 1
        await refuse(sqlite_service, made.row.id)
        # A key is remembered for a moment.
        async with asyncio.timeout(60):
            while (await first.post(NEW_MESSAGE, json=_BODY)).status_code != status:
                pass
        await die_elsewhere(sqlite_service)
        assert [(await one).status_code for one in refused] == [status] * 2
    answers = [await one for one in joined]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    # The first attempt, and one for both of those whose key is good.
    assert len(set(map(id, waiting))) == 2


@pytest.mark.parametrize("is_mine_revoked", [False, True])
async def test_each_caller_listens_by_its_own_api_key(sqlite_service: Service, is_mine_revoked: bool) -> None:
    made = await sqlite_service.keys.create(TESTER, sqlite_service.our_id)
    theirs = await _ask(sqlite_service.ours, background=True)
    async with client(sqlite_service.url, made.secret) as other:
        mine = await _ask(other, background=True)
    assert mine.json() | {"stream_url": ""} == theirs.json() | {"stream_url": ""}
    assert mine.headers["idempotent-replayed"] == "true"
    assert mine.headers["content-type"] == theirs.headers["content-type"]
    assert [await _listened(sqlite_service, one) for one in (theirs, mine)] == [200, 200]
    (first,) = [key for key in await sqlite_service.keys.page(sqlite_service.our_id, None, 9) if key.id != made.row.id]
    await _revoke(sqlite_service, made.row.id if is_mine_revoked else first.id)
    assert await _listened(sqlite_service, mine) == (401 if is_mine_revoked else 200)
    assert await _listened(sqlite_service, theirs) == (200 if is_mine_revoked else 401)


async def test_who_asks_again_later_listens_as_long_as_who_asks_for_the_first_time(
    sqlite_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def long_ago() -> datetime:
        return now() - timedelta(days=1)

    with monkeypatch.context() as patch:
        patch.setattr("app.controller.stream_url.now", long_ago)
        first = await _ask(sqlite_service.ours, background=True)
    again = await _ask(sqlite_service.ours, background=True)
    assert again.headers["idempotent-replayed"] == "true"
    assert [await _listened(sqlite_service, one) for one in (first, again)] == [401, 200]


async def test_a_recorded_answer_holds_no_token(service: Service) -> None:
    answer = await _ask(service.ours, background=True)
    token = answer.json()["stream_url"].partition("token=")[2].encode()
    async with service.database.begin(service.our_id) as session:
        body = await session.scalar(select(IdempotencyKey.body))
    recorded = zlib.decompress(body or b"")
    assert answer.json()["message_id"].encode() in recorded
    assert token not in recorded


async def test_who_joins_is_not_told_the_limits_of_another_key(
    sqlite_service: Service, waiting: list[Recording]
) -> None:
    made = await sqlite_service.keys.create(TESTER, sqlite_service.our_id)
    await LimitService(sqlite_service.database).set(
        TESTER, sqlite_service.our_id, Limits(requests_per_minute=9), key_id=made.row.id
    )
    body = {"prompt": script("slow", pause=3600), "stream": True}
    headers = {"Idempotency-Key": KEY}
    async with (
        client(sqlite_service.url, made.secret) as first,
        first.stream("POST", NEW_MESSAGE, json=body, headers=headers) as told,
        sqlite_service.ours.stream("POST", NEW_MESSAGE, json=body, headers=headers) as joined,
        first.stream("POST", NEW_MESSAGE, json=body, headers=headers) as again,
    ):
        limits = [one.headers.get("x-ratelimit-limit-requests") for one in (told, joined, again)]
        sqlite_service.hurry()
        texts = [await one.aread() for one in (told, joined, again)]
    assert limits == ["9", None, "9"]
    assert len(set(texts)) == 1
    assert len(set(map(id, waiting))) == 1
