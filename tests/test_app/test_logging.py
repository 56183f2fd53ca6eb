"""What the log tells, how, and what it does not tell."""

import io
import json
import logging
import re
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from pydantic import BaseModel, ValidationError
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from app.common.errors import NotFound, Unavailable
from app.common.logging import LogFormat, configure_logging
from app.common.tracebacks import traceback_text
from database.driver import SqliteTransaction
from database.models import Tenant
from database.session import Database
from tests.process import KEY, environment, started_service
from tests.service import NEW_MESSAGE, Service, exchange, running_service, script, stream

CANARY = "canary-4f1d"
TOUCHED = ("root", "app", "database", "services", "tools", "sqlalchemy")


class Log:
    """What this process logs, as one of the service's own would write it."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, logger: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["logger"] == logger]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Log]]:
    """Configures the log of this process, for one test."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in TOUCHED}

    def configure(level: str, form: LogFormat = "json") -> Log:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        root.handlers.clear()
        # Other tests may have asked a library for more.
        logging.getLogger("sqlalchemy").setLevel(logging.NOTSET)
        configure_logging(level, form)
        return Log(stream)

    yield configure
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def log(configured: Callable[..., Log]) -> Log:
    return configured("debug")


@pytest.fixture
async def service(log: Log, migrated_sqlite: Path, tmp_path: Path) -> AsyncIterator[Service]:
    path = tmp_path / "chatglm.db"
    shutil.copy(migrated_sqlite, path)
    async with running_service(f"sqlite:///{path}", tmp_path) as service:
        yield service


async def test_a_request_leaves_a_line_of_json_with_its_ids(service: Service, log: Log) -> None:
    response = await service.ours.post(NEW_MESSAGE, json={"prompt": "hi"})
    (line,) = log.of("app.access")
    duration = line.pop("duration_ms")
    assert 0 < duration < 30_000
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "app.access",
        "request_id": response.headers["x-request-id"],
        "tenant_id": service.our_id,
        "turn_id": response.json()["message_id"],
        "client": "127.0.0.1",
        "method": "POST",
        "path": NEW_MESSAGE,
        "status": 200,
    }


async def test_requests_on_one_connection_do_not_inherit_each_others_ids(service: Service, log: Log) -> None:
    await service.ours.post(NEW_MESSAGE, json={"prompt": "hi"})
    await service.ours.get("/nowhere")
    first, second = log.of("app.access")
    assert first["request_id"] != second["request_id"]
    assert "turn_id" not in second
    assert "tenant_id" not in second


async def test_a_path_is_logged_as_it_was_sent(service: Service, log: Log) -> None:
    for path in ("/a%1b%5b2J%0A%E5%A5%BD%25", "/%", "/chat//../%2e%2E/;"):
        request = f"GET {path}?q HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        assert (await exchange(service, request.encode())).startswith(b"HTTP/1.1 404")
        assert log.of("app.access")[-1]["path"] == path


async def test_what_is_refused_before_there_is_a_route_is_logged_with_its_id(service: Service, log: Log) -> None:
    (request_id,) = re.findall(rb"x-request-id: ([0-9a-f]{32})\r\n", await exchange(service, b"nonsense\r\n\r\n"))
    (refused,) = log.of("app.http_protocol")
    assert refused["event"] == "refused a request of 127.0.0.1: invalid_request"
    assert refused["request_id"] == request_id.decode()


async def test_health_checks_are_not_logged(service: Service, log: Log) -> None:
    for path in ("/healthz", "/readyz"):
        await service.nobody.get(path)
    assert log.of("app.access") == []


async def test_a_failed_generation_is_logged_under_its_turn(service: Service, log: Log) -> None:
    events = await stream(service.ours, script("abc", fail_after=1))
    (failed,) = log.of("services.inference.engine_server")
    assert failed["turn_id"] == events[0]["message_id"]


def failing(error: Exception) -> Callable[..., Awaitable[None]]:
    async def fail(*_: object) -> None:
        raise error

    return fail


async def test_no_line_holds_what_was_said_or_a_secret_whatever_happens(
    service: Service, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stream(service.ours, script(CANARY))
    await stream(service.ours, script(CANARY, fail_after=3))
    made = (await service.ours.post(NEW_MESSAGE, json={"prompt": CANARY, "user": CANARY, "background": True})).json()
    async with httpx2.AsyncClient(base_url=service.url) as browser:
        async with browser.stream("GET", made["stream_url"]) as response:
            await response.aread()
        assert response.status_code == 200
    await service.ours.get("/chat/get/messages/", params={"q": CANARY, "user": CANARY})
    await service.ours.post(NEW_MESSAGE, json={"prompt": {"a": CANARY}, CANARY: CANARY})
    await service.ours.post(NEW_MESSAGE, content=f'{{"prompt": "{CANARY}'.encode())
    assert (await service.nobody.get("/v1/models", headers={"x-api-key": CANARY})).status_code == 401

    for error, status in ((ValueError(CANARY), 500), (sqlite3.OperationalError("disk I/O error"), 503)):
        monkeypatch.setattr(SqliteTransaction, "run", failing(error))
        assert (await service.ours.post(NEW_MESSAGE, json={"prompt": CANARY})).status_code == status
    assert {200, 400, 401, 500, 503} <= {line.get("status") for line in log.lines}
    assert {"ValueError", "sqlite3.OperationalError: disk I/O error"} <= set(log.text.replace("\\n", '"').split('"'))
    for line in log.lines:
        assert CANARY not in str(line)
    for secret in (made["stream_url"].partition("token=")[2], service.ours.headers["authorization"][7:]):
        assert secret not in log.text


class _Body(BaseModel):
    number: int


def raised(error: Exception, cause: Exception | None = None) -> str:
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return traceback_text((type(error), error, caught.tb))


def test_a_traceback_names_the_place_and_the_kind_but_not_what_a_caller_sent() -> None:
    with pytest.raises(ValidationError) as refused:
        _Body.model_validate({"number": CANARY})
    for error in (
        ValueError(CANARY),
        KeyError(CANARY),
        refused.value,
        asyncpg.DataError(CANARY),
        IntegrityError(None, None, Exception(CANARY)),
        NotFound(CANARY),
        ExceptionGroup(CANARY, [ValueError(CANARY)]),
    ):
        text = raised(error)
        assert type(error).__qualname__ in text
        assert f'{__file__}", line' in text
        assert CANARY not in text


def test_a_traceback_tells_what_the_machine_says_and_what_came_before() -> None:
    text = raised(Unavailable("The database cannot be reached."), OSError(28, "No space left on device"))
    assert "OSError: [Errno 28] No space left on device" in text
    assert "app.common.errors.Unavailable: The database cannot be reached." in text
    assert text.index("OSError") < text.index("Unavailable")


def test_a_line_stays_a_line_whatever_is_in_it(log: Log) -> None:
    logging.getLogger("app").info("one\ntwo \ud800 %s", "三")
    (line,) = log.lines
    assert line["event"] == "one\ntwo \ud800 三"


def test_libraries_say_only_what_is_wrong(log: Log) -> None:
    logging.getLogger("sqlalchemy.engine").info("a row")
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task %s>", CANARY)
    assert [line["event"] for line in log.lines] == ["Task exception was never retrieved"]


def test_text_is_for_those_who_ask_for_it(configured: Callable[..., Log]) -> None:
    log = configured("info", "text")
    logging.getLogger("app").info("ready", extra={"turn_id": "7"})
    assert log.text.rstrip().endswith("ready [app] turn_id=7")


def test_every_process_of_the_service_logs_json_where_nobody_looks_on(tmp_path: Path) -> None:
    with started_service(environment(tmp_path, bootstrap_api_key=KEY), tmp_path / "log") as service:
        service.client.post(NEW_MESSAGE, json={"prompt": "hi"})
        # Killed instead, it might not have come to the line of that request.
        service.process.terminate()
        assert service.process.wait(30) == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"app", "app.access", "services.inference"} <= {line["logger"] for line in lines}


async def test_a_failing_statement_does_not_tell_its_parameters(database: Database) -> None:
    with pytest.raises(IntegrityError) as error:
        async with database.begin_global() as session:
            session.add(Tenant(id="0" * 32, name="a secret name", created_at=None))
    assert "a secret name" not in str(error.value)
    async with database.begin_global() as session:
        assert (await session.execute(select(func.count()).select_from(Tenant))).scalar() == 0
