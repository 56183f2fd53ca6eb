"""Conversations of other software become conversations of this one: in the history, to be continued, once."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.common.errors import Unavailable
from database.clock import now
from database.repositories.history_repository import HistoryFilter, HistoryRepository
from database.repositories.import_repository import ImportRepository
from database.session import Database
from services.audit_service import AuditService
from services.limit_service import Limits, LimitService
from services.principal import Principal
from tests.administration import Command
from tests.conftest import make_tenant
from tests.rows import TESTER
from tests.test_tools.test_data_migration.copies import on as work_on
from tests.test_tools.test_data_migration.test_import_formats import a_tree, node, printed
from tools.data_migration.exit_status import REJECTED

CHAT = {
    "messages": [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "问"},
        {"role": "assistant", "content": "答"},
    ]
}
SHARED = {"conversations": [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]}
TREE = a_tree(node("ask", "root", "user", "问"), node("answer", "ask", "assistant", "答"), current="answer")
FILES: dict[str, tuple[bytes, list[str]]] = {
    "wrapper-log": (printed("2024-07-01 00:06:25", "问", "答").encode(), ["--timezone", "Asia/Shanghai"]),
    "openai": (json.dumps(CHAT).encode(), ["--at", "2024-07-01"]),
    "sharegpt": (json.dumps([SHARED]).encode(), ["--at", "2024-07-01"]),
    "chatgpt": (json.dumps([TREE]).encode(), []),
}


@pytest.fixture
def ours(on: Command, database_url: str) -> Principal:
    return work_on(database_url, lambda database: make_tenant(database, "ours"))


async def history(database: Database, principal: Principal) -> list[tuple[Any, ...]]:
    async with database.begin(principal.tenant_id) as session:
        rows = await HistoryRepository(session).page(HistoryFilter(), 100)
        said = [text and (text.prompt, text.response) for _, text in rows]
        made = [(turn.endpoint, turn.created_at.year, turn.conversation_id is not None) for turn, _ in rows]
        return [(one, *more) for one, more in zip(said, made, strict=True)]


def imported(on: Command, path: Path, kind: str, *options: str) -> dict[str, Any]:
    (report,) = on.json("import", kind, str(path), "--tenant", "ours", *options)
    return report


@pytest.mark.parametrize("kind", FILES)
def test_what_is_imported_is_in_the_history_once_however_often_it_is_imported(
    on: Command, ours: Principal, database_url: str, tmp_path: Path, kind: str
) -> None:
    raw, options = FILES[kind]
    (tmp_path / "file").write_bytes(raw)
    first, second = (imported(on, tmp_path / "file", kind, *options) for _ in range(2))
    assert (first["records"], first["rejected"], second["rows_added"]) == (1, 0, 0)
    assert first["rows_added"] == (6 if kind == "openai" else 5)
    found = work_on(database_url, lambda database: history(database, ours))
    assert found == [(("问", "答"), f"import/{kind}", 2024, True)]
    # In nobody's usage, and by a key that nobody has: both are right.
    assert on("verify").status == 0


def test_what_is_imported_as_said_in_this_minute_counts_in_no_limit(
    on: Command, ours: Principal, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "chats").write_bytes(FILES["openai"][0])
    at = (now() + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%S")
    imported(on, tmp_path / "chats", "openai", "--at", at)
    limits = Limits(requests_per_minute=5)
    kept = work_on(database_url, lambda database: LimitService(database).set(TESTER, ours.tenant_id, limits))
    assert (kept.row.minute_requests, kept.row.minute_tokens) == (0, 0)


def test_one_file_for_two_tenants_is_two_conversations(
    on: Command, ours: Principal, database_url: str, tmp_path: Path
) -> None:
    theirs = work_on(database_url, lambda database: make_tenant(database, "theirs"))
    (tmp_path / "log").write_bytes(FILES["wrapper-log"][0])
    for tenant in ("ours", "theirs"):
        (report,) = on.json("import", "wrapper-log", str(tmp_path / "log"), "--tenant", tenant)
        assert report["rows_added"] == 5
    assert len(work_on(database_url, lambda database: history(database, ours))) == 1
    assert len(work_on(database_url, lambda database: history(database, theirs))) == 1


def test_records_without_a_time_are_rejected_unless_one_is_given(on: Command, ours: Principal, tmp_path: Path) -> None:
    unstorable = b'{"messages": [{"role": "user", "content": "a\\u0000b"}]}'
    (tmp_path / "chats").write_bytes(FILES["openai"][0] + b"\n" + unstorable)
    command = ("import", "openai", str(tmp_path / "chats"), "--tenant", "ours", "--rejects", "bad")
    assert on(*command).status == REJECTED
    assert len(Path("bad").read_bytes().splitlines()) == 2
    assert on(*command, "--at", "2024-07-01").status == REJECTED
    assert [json.loads(line)["reason"] for line in Path("bad").read_bytes().splitlines()] == [
        "it holds U+0000, which cannot be stored"
    ]
    assert Path("bad").stat().st_mode & 0o077 == 0


def test_an_import_that_breaks_off_is_audited_as_begun(
    on: Command, ours: Principal, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (printed(f"2024-07-01 00:{at // 60:02}:{at % 60:02}", "q", "a") for at in range(100))
    (tmp_path / "log").write_text("".join(said))
    add, calls = ImportRepository.add_missing, 0

    async def breaking(self: ImportRepository, *arguments: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Unavailable("The database is gone.")
        return await add(self, *arguments)

    monkeypatch.setattr(ImportRepository, "add_missing", breaking)
    assert on("import", "wrapper-log", str(tmp_path / "log"), "--tenant", "ours").status == 1
    assert len(work_on(database_url, lambda database: history(database, ours))) == 50
    assert work_on(database_url, actions) == ["tenant.import"]
    imported(on, tmp_path / "log", "wrapper-log")
    assert work_on(database_url, actions) == ["tenant.imported", "tenant.import", "tenant.import"]


async def actions(database: Database) -> list[str]:
    """What the audit log has, newest first."""
    return [event.action for event in await AuditService(database).page(None, None, 10)]


def test_a_log_that_has_grown_adds_only_what_is_new(on: Command, ours: Principal, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(printed("2024-07-01 00:06:25", "one", "1"))
    assert imported(on, log, "wrapper-log")["rows_added"] == 5
    log.write_text(log.read_text() + "".join(printed("2024-07-01 00:06:26", f"{number}", "x") for number in range(120)))
    report = imported(on, log, "wrapper-log")
    assert (report["records"], report["rows_added"]) == (121, 600)


def test_a_wrong_zone_or_tenant_is_said_in_a_sentence(on: Command, ours: Principal, tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    ended = on("import", "wrapper-log", str(tmp_path / "log"), "--tenant", "ours", "--timezone", "Nowhere")
    assert (ended.status, "Nowhere" in ended.errors) == (2, True)
    assert on("import", "wrapper-log", str(tmp_path / "log"), "--tenant", "nobody").status == 1
