"""SQLite's write-ahead log: what is erased is in none of the database's files, as soon as nobody reads them."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from database.clock import now
from database.engine import create_engine
from database.session import Database
from services.conversation_service import ConversationService
from services.erasure_service import ErasureService
from services.history_service import HistoryService
from services.principal import Principal
from services.response_service import ENDPOINT, ResponseService
from services.retention_service import RetentionService
from services.stored_completion_service import ENDPOINT as COMPLETIONS
from services.stored_completion_service import StoredCompletionService
from services.tenant_service import TenantService
from tests.conftest import make_tenant
from tests.rows import TESTER, a_conversation, a_text, a_turn, an_item, store

_SAID, _USER = "an unmistakable confession", "ann@example.com"
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class _Said:
    """Where something was said: in a conversation's turn, stored turns, and an item that was brought along."""

    database: Database
    principal: Principal
    directory: Path
    conversation_id: str
    turn_id: str
    item_id: str
    response_id: str
    completion_id: str

    def files_with(self, text: str) -> set[str]:
        return {path.suffix for path in self.directory.iterdir() if text.encode() in path.read_bytes()}


@pytest.fixture
async def said(tmp_path: Path, migrated_sqlite: Path) -> AsyncIterator[_Said]:
    path = tmp_path / "a.db"
    shutil.copy(migrated_sqlite, path)
    database = Database(create_engine(f"sqlite:///{path}", timeout=_TIMEOUT_SECONDS))
    ours = await make_tenant(database, "ours")
    long_ago = now() - timedelta(days=9)
    conversation = a_conversation(user=_USER, used_at=long_ago)
    turn = a_turn(ours, conversation_id=conversation.id, user=_USER)
    response = a_turn(ours, endpoint=ENDPOINT, stored=True)
    completion = a_turn(ours, endpoint=COMPLETIONS, stored=True)
    item = an_item(conversation, text=f"{_SAID} in an item")
    await store(database, ours, conversation, turn, response, completion, item)
    texts = {turn: "a turn", response: "a response", completion: "a completion"}
    await store(database, ours, *(a_text(one, f"{_SAID} in {name}") for one, name in texts.items()))
    yield _Said(database, ours, tmp_path, conversation.id, turn.id, item.id, response.id, completion.id)
    await database.close()


async def _erase_conversation(said: _Said) -> None:
    await ErasureService(said.database, 1).conversation(TESTER, said.principal.tenant_id, said.conversation_id)


async def _erase_user(said: _Said) -> None:
    await ErasureService(said.database, 1).user(TESTER, said.principal.tenant_id, _USER)


async def _erase_tenant(said: _Said) -> None:
    await TenantService(said.database).suspend(TESTER, said.principal.tenant_id)
    await ErasureService(said.database, 1).tenant(TESTER, said.principal.tenant_id)


async def _purge(said: _Said) -> None:
    await TenantService(said.database).change(TESTER, said.principal.tenant_id, conversation_days=1)
    await RetentionService(said.database, batch=1, interval=3600).purge(TESTER)


async def _erase_message(said: _Said) -> None:
    await HistoryService(said.database).delete_turn(TESTER, said.principal.tenant_id, said.turn_id)


async def _erase_response(said: _Said) -> None:
    await ResponseService(said.database).delete(TESTER, said.principal.tenant_id, said.response_id)


async def _erase_completion(said: _Said) -> None:
    await StoredCompletionService(said.database).delete(TESTER, said.principal.tenant_id, said.completion_id)


async def _erase_item(said: _Said) -> None:
    service = ConversationService(said.database)
    await service.delete_item(TESTER, said.principal.tenant_id, said.conversation_id, said.item_id)


@pytest.mark.parametrize(
    ("erase", "where"),
    [
        (_erase_conversation, "in an item"),
        (_erase_conversation, "in a turn"),
        (_erase_user, "in a turn"),
        (_erase_tenant, "in a response"),
        (_purge, "in a turn"),
        (_erase_message, "in a turn"),
        (_erase_response, "in a response"),
        (_erase_completion, "in a completion"),
        (_erase_item, "in an item"),
    ],
)
async def test_what_is_erased_is_in_no_file(said: _Said, erase: Callable[[_Said], Awaitable[None]], where: str) -> None:
    assert said.files_with(f"{_SAID} {where}")
    await erase(said)
    assert said.files_with(f"{_SAID} {where}") == set()


async def test_a_reader_that_is_in_the_way_is_not_waited_for_and_the_next_purge_empties_the_log(
    said: _Said, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(said.directory / "a.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM turn_texts").fetchone()
        # Less than it would wait for a lock.
        async with asyncio.timeout(30):
            await _erase_conversation(said)
        assert said.files_with(_SAID)
        assert "SQLite's log still has what was deleted" in caplog.text
    assert await RetentionService(said.database, batch=1, interval=3600).purge(TESTER) == {}
    assert said.files_with(f"{_SAID} in a turn") == set()


async def _on_its_connection(database: Database, work: Callable[[sqlite3.Connection], Any]) -> Any:
    async with database._engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        return await driver.run(work)


async def test_who_asks_while_the_log_is_emptied_shares_the_next_time_and_others_wait_for_locks_as_before(
    said: _Said,
) -> None:
    statements: list[str] = []
    await _on_its_connection(said.database, lambda one: one.set_trace_callback(statements.append))
    await asyncio.gather(*(said.database.empty_log() for _ in range(10)))
    assert sum("wal_checkpoint" in statement for statement in statements) == 2
    (timeout,) = await _on_its_connection(said.database, lambda one: one.execute("PRAGMA busy_timeout").fetchone())
    assert timeout == _TIMEOUT_SECONDS * 1000


async def test_an_erasure_does_not_fail_where_the_log_cannot_be_emptied(
    said: _Said, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_connection: sqlite3.Connection) -> bool:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr("database.sqlite_log._truncate", fail)
    await _erase_conversation(said)
    assert "SQLite's log still has what was deleted" in caplog.text
