"""What Prometheus is told, and whom the service tells it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.version import VERSION
from database.identifier import new_id
from tests.service import NEW_MESSAGE, Service, exchange, running_service, script, stream

TOKEN = "a token of the tests, long enough to be one"
# As vLLM names them, with what Prometheus' client adds to a counter.
VLLM_SUFFIXES = {
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "prompt_tokens_total",
    "generation_tokens_total",
    "request_success_total",
    "time_to_first_token_seconds_bucket",
    "inter_token_latency_seconds_bucket",
    "e2e_request_latency_seconds_bucket",
    "request_queue_time_seconds_bucket",
    "request_prefill_time_seconds_bucket",
    "request_decode_time_seconds_bucket",
}


class Reading:
    """One answer of `/metrics`."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Of all series of this name with these labels, together."""
        found = [each.value for each in self.samples if each.name == name and labels.items() <= each.labels.items()]
        assert found, name
        return sum(found)

    def series(self) -> set[tuple[str, str]]:
        return {(sample.name, str(sorted(sample.labels.items()))) for sample in self.samples}

    def labels(self) -> set[str]:
        return {label for sample in self.samples for label in sample.labels}


def metered(migrated_sqlite: Path, directory: Path, **settings: Any) -> AbstractAsyncContextManager[Service]:
    path = directory / "chatglm.db"
    shutil.copy(migrated_sqlite, path)
    return running_service(f"sqlite:///{path}", directory, **settings)


@pytest.fixture
async def service(migrated_sqlite: Path, tmp_path: Path) -> AsyncIterator[Service]:
    async with metered(migrated_sqlite, tmp_path, metrics_token=TOKEN, max_running=1) as service:
        yield service


async def read(service: Service) -> Reading:
    response = await service.nobody.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return Reading(response.text)


async def test_there_are_no_metrics_unless_a_setting_opens_them(sqlite_service: Service) -> None:
    for caller in (sqlite_service.nobody, sqlite_service.ours, sqlite_service.admin):
        assert (await caller.get("/metrics")).status_code == 404


async def test_with_a_token_they_are_for_whoever_has_it_and_for_no_key(migrated_sqlite: Path, tmp_path: Path) -> None:
    async with metered(migrated_sqlite, tmp_path, metrics_token=TOKEN) as service:
        for caller in (service.nobody, service.ours, service.admin):
            assert (await caller.get("/metrics")).status_code == 401
        for given in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN[:-1]}ä"):
            headers = {b"Authorization": given.encode()}
            assert (await service.nobody.get("/metrics", headers=headers)).status_code == 401
        response = await service.nobody.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert response.status_code == 200
        assert "chatglm:build_info" in response.text


async def test_the_names_are_vllms_but_for_the_prefix(service: Service) -> None:
    await stream(service.ours, script("abc"))
    names = {sample.name for sample in (await read(service)).samples}
    assert {f"chatglm:{suffix}" for suffix in VLLM_SUFFIXES} <= names
    assert {name for name in names if not name.startswith(("chatglm:", "process_"))} == set()


async def test_a_run_that_is_known_gives_values_that_are_known(service: Service) -> None:
    usage = [(await stream(service.ours, script("abcd", step=2)))[-1]["usage"] for _ in range(2)]
    cut = await service.ours.post(NEW_MESSAGE, json={"prompt": script("abcd"), "max_tokens": 3})
    usage.append(cut.json()["usage"])
    await stream(service.ours, script("abcd", fail_after=2))
    seen = await read(service)
    scripted = {"model_name": "scripted"}
    assert seen.value("chatglm:request_success_total", finished_reason="stop", **scripted) == 2
    assert seen.value("chatglm:request_success_total", finished_reason="length", **scripted) == 1
    assert seen.value("chatglm:turns_total", status="completed", **scripted) == 3
    assert seen.value("chatglm:turns_total", status="failed", **scripted) == 1
    assert seen.value("chatglm:prompt_tokens_total", **scripted) >= sum(one["prompt_tokens"] for one in usage)
    # Of those that stop, a token that nobody sees is counted in their usage; two tokens are of the one that failed.
    assert seen.value("chatglm:generation_tokens_total", **scripted) == 4 + 4 + 3 + 2
    assert seen.value("chatglm:time_to_first_token_seconds_count", **scripted) == 4
    assert seen.value("chatglm:inter_token_latency_seconds_count", **scripted) == 1 + 1 + 2 + 1
    assert seen.value("chatglm:e2e_request_latency_seconds_count", **scripted) == 4
    assert seen.value("chatglm:request_decode_time_seconds_count", **scripted) == 3
    assert seen.value("chatglm:http_requests_total", route=NEW_MESSAGE, method="POST", status="200") == 4
    assert seen.value("chatglm:build_info", version=VERSION) == 1


async def test_who_waits_and_who_runs_is_seen_within_two_seconds(service: Service) -> None:
    streams = [asyncio.create_task(stream(service.ours, script("a" * 1000, rate=100))) for _ in range(3)]
    async with asyncio.timeout(60):
        while True:
            seen = await read(service)
            running = seen.value("chatglm:num_requests_running")
            if (running, seen.value("chatglm:num_requests_waiting")) == (1, 2):
                break
            await asyncio.sleep(0.05)
    assert seen.value("chatglm:engine_ready") == 1
    for one in streams:
        one.cancel()
    await asyncio.gather(*streams, return_exceptions=True)


async def test_the_time_in_the_queue_is_the_engines(service: Service) -> None:
    await asyncio.gather(*(stream(service.ours, script("aaaa", rate=20)) for _ in range(2)))
    seen = await read(service)
    waited = seen.value("chatglm:request_queue_time_seconds_sum")
    assert 0.1 < waited < seen.value("chatglm:time_to_first_token_seconds_sum")
    whole = seen.value("chatglm:e2e_request_latency_seconds_sum")
    assert seen.value("chatglm:request_prefill_time_seconds_sum") < whole


async def test_refusals_are_counted_by_code(service: Service) -> None:
    await service.nobody.get("/v1/models")
    await service.ours.post(NEW_MESSAGE, json={"prompt": ""})
    await service.ours.post(NEW_MESSAGE, json={"prompt": ""}, headers={"Idempotency-Key": "a"})
    await service.ours.post(NEW_MESSAGE, content=b"x" * (5 * 1024 * 1024))
    seen = await read(service)
    assert seen.value("chatglm:refusals_total", code="invalid_api_key") == 1
    assert seen.value("chatglm:refusals_total", code="invalid_value") == 2
    assert seen.value("chatglm:refusals_total", code="request_too_large") == 1


async def test_refusals_before_there_is_a_route_are_counted_too(service: Service) -> None:
    await exchange(service, b"nonsense\r\n\r\n")
    await exchange(service, b"GET / HTTP/1.1\r\nHost: here\r\n" + b"x: y\r\n" * 200)
    seen = await read(service)
    for code in ("invalid_request", "headers_too_large"):
        assert seen.value("chatglm:refusals_total", code=code) == 1


async def test_no_caller_can_make_a_series(service: Service) -> None:
    await stream(service.ours, script("abc"))
    before = (await read(service)).series()
    for number in range(5):
        async with httpx2.AsyncClient(base_url=service.url) as stranger:
            await stranger.get(f"/nowhere/{number}")
            await stranger.request(f"METHOD{number}", f"/v1/models/{new_id()}")
        await service.ours.get(f"/v1/conversations/{new_id()}", headers={"User-Agent": f"{number}"})
        await service.ours.post(NEW_MESSAGE, json={"prompt": script("abc"), "user": f"user {number}"})
        await service.theirs.post("/v1/chat/completions", json={"model": f"model {number}", "messages": []})
    seen = await read(service)
    new = seen.series() - before
    assert {name for name, _ in new} <= {"chatglm:http_requests_total", "chatglm:refusals_total"}
    assert len(new) <= 8, new
    assert seen.labels() == {"model_name", "le", "finished_reason", "status", "method", "route", "code", "version"}
