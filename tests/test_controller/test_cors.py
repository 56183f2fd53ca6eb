"""Pages of other origins: shut out unless a setting names them."""

from pathlib import Path

import httpx2
import pytest

from tests.openai_clients import CHAT, asking
from tests.service import Service, running_service, script

APP, OTHER = "https://app.example.com", "https://other.example.com"
# What openai-node sends from a browser.
ASKED = "authorization,content-type,idempotency-key,last-event-id,x-api-key,x-stainless-lang,x-stainless-retry-count"


async def preflight(client: httpx2.AsyncClient, origin: str, path: str = CHAT) -> httpx2.Response:
    """As a browser asks before it posts; without a key."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": ASKED}
    return await client.options(path, headers=headers)


async def test_without_the_setting_no_page_may_call(service: Service) -> None:
    asked = await preflight(service.nobody, APP)
    answer = await service.ours.post(CHAT, json=asking(script("hi")), headers={"Origin": APP})
    assert asked.status_code == 405
    assert answer.status_code == 200
    for response in (asked, answer):
        assert not [name for name in response.headers if name.startswith("access-control-")]


async def test_pages_of_a_named_origin_may_call_and_read_what_clients_read(database_url: str, tmp_path: Path) -> None:
    origins = f"{APP}, http://localhost:5173"
    async with running_service(database_url, tmp_path, cors_origins=origins) as service:
        for origin in (APP, "http://localhost:5173"):
            asked = await preflight(service.nobody, origin)
            assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, origin)
            assert set(ASKED.split(",")) <= set(asked.headers["access-control-allow-headers"].split(","))
            assert "access-control-allow-credentials" not in asked.headers
        for stream in (False, True):
            answer = await service.ours.post(CHAT, json=asking(script("hi"), stream=stream), headers={"Origin": APP})
            readable = set(answer.headers["access-control-expose-headers"].split(", "))
            assert answer.headers["access-control-allow-origin"] == APP
            assert answer.headers["vary"] == "Origin"
            assert {"x-request-id", "retry-after", "retry-after-ms", "x-ratelimit-remaining-tokens"} <= readable
        refused = await service.nobody.get("/v1/models", headers={"Origin": APP})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, APP)
        # Caches must not serve what one origin was answered to another.
        assert (await service.ours.get("/v1/models")).headers["vary"] == "Origin"


async def test_pages_of_other_origins_stay_shut_out(database_url: str, tmp_path: Path) -> None:
    async with running_service(database_url, tmp_path, cors_origins=APP) as service:
        for origin in (OTHER, "null", f"{APP}.evil.com", "http://app.example.com", f"{APP}:8443"):
            asked = await preflight(service.nobody, origin)
            answer = await service.ours.get("/v1/models", headers={"Origin": origin})
            assert asked.status_code == 400
            for response in (asked, answer):
                assert "access-control-allow-origin" not in response.headers


async def test_a_star_lets_all_pages_call_but_no_cookie_in(database_url: str, tmp_path: Path) -> None:
    async with running_service(database_url, tmp_path, cors_origins="*") as service:
        asked = await preflight(service.nobody, OTHER)
        assert asked.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in asked.headers


async def test_a_broken_answer_can_be_read_and_names_its_request(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.controller.model_controller._entry", None)
    async with running_service(database_url, tmp_path, cors_origins=APP) as service:
        broken = await service.ours.get("/v1/models", headers={"Origin": APP})
        assert broken.status_code == 500
        assert broken.json()["error"]["code"] == "internal_error"
        assert broken.headers["access-control-allow-origin"] == APP
        assert len(broken.headers["x-request-id"]) == 32
        assert int(broken.headers["openai-processing-ms"]) >= 0


async def test_every_answer_names_its_request_and_how_long_it_took(service: Service) -> None:
    answers = [
        await service.ours.get("/healthz"),
        await service.ours.post(CHAT, json=asking(script("hi"), stream=True)),
        await service.ours.post(CHAT, json={}),
        await service.nobody.get("/v1/models"),
        await service.ours.get("/v1/nothing"),
        await service.ours.put(CHAT),
        await service.ours.post(CHAT, content=b"x" * 5_000_000),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 401, 404, 405, 413]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
    assert all(int(answer.headers["openai-processing-ms"]) >= 0 for answer in answers)
