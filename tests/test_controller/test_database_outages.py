"""What callers see when the database goes away: refusals before any byte, errors at the end, and later the answer."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from app.common.errors import DatabaseUnavailable
from app.main import create_app
from app.settings import Settings
from database.session import Database
from tests.postgres_proxy import Mode, PostgresProxy, proxied
from tests.service import NEW_MESSAGE, SECRET, Service, events_of, running_engine, running_service, script, text_of


@pytest.fixture
async def proxy(postgres_directory: str) -> PostgresProxy:
    return PostgresProxy(postgres_directory)


@pytest.fixture
async def service(proxy: PostgresProxy, postgres_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    async with (
        proxy.listening() as port,
        running_service(proxied(postgres_url, port), tmp_path, database_seconds=0.5) as service,
    ):
        yield service


async def _history(service: Service) -> list[tuple[str, str]]:
    answer = await service.ours.get("/chat/get/messages/")
    return [(entry["status"], entry["response"]) for entry in answer.json()["messages"]]


@pytest.mark.parametrize("mode", ["refuse", "swallow"])
async def test_callers_are_refused_before_any_byte_and_served_again_when_the_database_is_back(
    service: Service, proxy: PostgresProxy, mode: Mode
) -> None:
    await service.ours.post(NEW_MESSAGE, json={"prompt": script("before")})
    proxy.turn(mode)
    if mode == "refuse":
        proxy.cut()
    bodies = [{"prompt": script("meanwhile"), "stream": stream} for stream in (False, True)]
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(service.ours.post(NEW_MESSAGE, json=body) for body in bodies * 5))
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["error"]["code"] for answer in answers} == {"database_unavailable"}
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
    assert (await service.nobody.get("/healthz")).status_code == 200
    assert (await service.nobody.get("/readyz")).status_code == 503
    proxy.turn("pass")
    assert (await service.ours.post(NEW_MESSAGE, json={"prompt": script("after")})).json()["response"] == "after"
    stored = await _history(service)
    assert (stored[0], stored[-1]) == (("completed", "after"), ("completed", "before"))
    assert {status for status, _ in stored[1:-1]} <= {"failed"}


async def test_a_stream_whose_end_cannot_be_stored_ends_with_an_error_and_the_answer_is_there_later(
    service: Service, proxy: PostgresProxy, tmp_path: Path
) -> None:
    body = {"prompt": script("a" * 40, pause=3600), "stream": True}
    async with service.ours.stream("POST", NEW_MESSAGE, json=body) as response:
        assert response.status_code == 200
        proxy.turn("refuse")
        proxy.cut()
        service.hurry()
        *said, last = await events_of(response)
    assert text_of(said) == "a" * 40
    assert (last["error"]["code"], "finish_reason" in last) == ("database_unavailable", False)
    assert (tmp_path / "unsettled.journal").stat().st_size > 0
    proxy.turn("pass")
    async with asyncio.timeout(60):
        while await _history(service) != [("completed", "a" * 40)]:
            pass
        while (tmp_path / "unsettled.journal").stat().st_size:
            await asyncio.sleep(0.01)


async def test_on_sqlite_an_end_that_another_program_keeps_from_being_written_is_written_after_it(
    migrated_sqlite: Path, tmp_path: Path
) -> None:
    path = shutil.copy(migrated_sqlite, tmp_path / "chatglm.db")
    body = {"prompt": script("a" * 40, pause=3600), "stream": True}
    async with running_service(f"sqlite:///{path}", tmp_path, database_seconds=0.5) as service:
        async with service.ours.stream("POST", NEW_MESSAGE, json=body) as response:
            assert response.status_code == 200
            with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                service.hurry()
                *said, last = await events_of(response)
                refused = await service.ours.post(NEW_MESSAGE, json={"prompt": script("meanwhile")})
        assert (text_of(said), last["error"]["code"]) == ("a" * 40, "database_unavailable")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "database_unavailable")
        async with asyncio.timeout(60):
            while await _history(service) != [("completed", "a" * 40)]:
                pass


async def test_an_api_that_starts_while_the_database_is_away_needs_no_other_start(
    proxy: PostgresProxy, postgres_url: str, tmp_path: Path
) -> None:
    proxy.turn("refuse")
    async with proxy.listening() as port, running_engine(tmp_path / "engine.sock"):
        settings = Settings(database_url=proxied(postgres_url, port), secret=SECRET.decode(), data_dir=tmp_path)
        app = create_app(settings, secret=SECRET, engine_socket=tmp_path / "engine.sock", instance="0" * 32)
        async with app.router.lifespan_context(app) as state:
            assert state is not None
            database: Database = state["provided"].database
            with pytest.raises(DatabaseUnavailable):
                await database.ping()
            proxy.turn("pass")
            await database.ping()
