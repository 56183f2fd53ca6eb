"""Limits and usage of services that share a database, and die."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from app.__main__ import _prepare
from app.refusal import CannotStart
from app.settings import Settings
from database import clock_skew as skewed
from database.clock import now
from database.engine import create_engine
from database.repositories.usage_repository import UsageFilter
from database.session import Database
from services.limit_service import Limits, LimitService
from services.recovery_service import RecoveryService
from services.tenant_service import TenantService
from services.turn_log import TurnLog
from services.usage_service import UsageService
from tests.conftest import OWNER, SERVICE
from tests.process import KEY, ServiceProcess, environment, messages, script, started_service
from tests.rows import TESTER

Result = TypeVar("Result")
_NEW_MESSAGE = "/chat/new/message/"
_PROMPT = script("hello")


def _environment(url: str, data_dir: Path) -> dict[str, str]:
    return environment(data_dir, database_url=url, secret="s" * 40, bootstrap_api_key=KEY, database_pool=4)


def _on(url: str, work: Callable[[Database], Coroutine[None, None, Result]]) -> Result:
    async def opened() -> Result:
        database = Database(create_engine(url))
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(opened())


def _limit(url: str, **limits: int) -> None:
    async def limit(database: Database) -> None:
        tenant = await TenantService(database).named("default")
        await LimitService(database).set(TESTER, tenant.id, Limits(**limits))

    _on(url, limit)


def _running(url: str) -> int:
    async def running(database: Database) -> int:
        tenant = await TenantService(database).named("default")
        (kept,) = await LimitService(database).of_tenant(tenant.id)
        return kept.row.running

    return _on(url, running)


def _ask_all(services: list[ServiceProcess], count: int, **body: Any) -> Counter[int]:
    def ask(number: int) -> int:
        client = services[number % len(services)].client
        return client.post(_NEW_MESSAGE, json={"prompt": _PROMPT, **body}).status_code

    with ThreadPoolExecutor(count) as pool:
        return Counter(pool.map(ask, range(count)))


def _assert_usage_is_the_logs(url: str, service: ServiceProcess) -> None:
    today = now().date()
    wanted = UsageFilter(since=today - timedelta(days=1), until=today)
    (usage,) = _on(url, lambda database: UsageService(database).of_all(wanted, by=["model"]))
    log = messages(service.client)
    assert usage["requests"] == len(log)
    for name in ("prompt_tokens", "completion_tokens"):
        assert usage[name] == sum(int(str(message[name])) for message in log)
    assert usage["failed"] == len([message for message in log if message["status"] == "interrupted"])


def test_two_services_share_every_limit_exactly_and_a_killed_one_keeps_nothing(
    postgres_url: str, tmp_path: Path
) -> None:
    envs = [_environment(postgres_url, tmp_path / name) for name in ("one", "two")]
    with started_service(envs[0], tmp_path / "log1") as one, started_service(envs[1], tmp_path / "log2") as two:
        # What one request takes, and what it may take.
        first = one.client.post(_NEW_MESSAGE, json={"prompt": _PROMPT, "max_tokens": 100}).json()["usage"]
        used, may_take = first["total_tokens"], first["prompt_tokens"] + 100
        quota = used + 9 * used + may_take - 1
        _limit(postgres_url, tokens_per_month=quota)
        # Ten more fit to the token once those before are settled; never one more, however many are asked at once.
        passed = 0
        while (statuses := _ask_all([one, two], 8, max_tokens=100))[200]:
            assert statuses[200] + statuses[429] == 8
            passed += statuses[200]
        assert passed == 9
        _limit(postgres_url, turns_at_once=3)
        request = one.client.build_request(
            "POST", _NEW_MESSAGE, json={"prompt": script("a" * 500, rate=20), "stream": True}
        )
        with_end = one.client.send(request, stream=True)
        lines = with_end.iter_lines()
        next(lines)
        assert _running(postgres_url) == 1
        one.kill_everything()
        with_end.close()
        assert _ask_all([two], 1, max_tokens=10) == {200: 1}
        _on(postgres_url, lambda database: _recovery(database).recover((tmp_path / "one/instance").read_text().strip()))
        assert _running(postgres_url) == 0
        assert Counter(str(message["status"]) for message in messages(two.client)) == {
            "completed": 11,
            "interrupted": 1,
        }
        _assert_usage_is_the_logs(postgres_url, two)


def _recovery(database: Database) -> RecoveryService:
    """As the killed service has it when it starts again."""
    lease = timedelta(seconds=30)
    log = TurnLog(database, owner="0" * 32, lease=lease)
    nobody: Any = None
    return RecoveryService(database, log, nobody, nobody, lease=lease)


def test_a_service_refuses_to_start_by_a_clock_that_is_not_the_databases(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skewed, "now", lambda: now() + timedelta(days=31))
    settings = Settings(database_url=postgres_url, secret="s" * 40, data_dir=tmp_path)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(CannotStart, match=r"\+2678400 s off the database's"),
    ):
        asyncio.run(_prepare(settings, listener, upgrades=False))


@pytest.mark.parametrize("role", ["postgres", OWNER])
def test_a_service_refuses_a_role_that_nothing_binds_unless_in_development(
    postgres_url: str, tmp_path: Path, role: str
) -> None:
    settings = Settings(
        database_url=postgres_url.replace(f"//{SERVICE}@", f"//{role}@"), secret="s" * 40, data_dir=tmp_path
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(CannotStart, match=r"database/roles\.sql, or set CHATGLM_ENV=development"):
            asyncio.run(_prepare(settings, listener, upgrades=False))
        asyncio.run(_prepare(settings.model_copy(update={"env": "development"}), listener, upgrades=False))
