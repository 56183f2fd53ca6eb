"""What is exported and imported elsewhere is exported there again byte for byte."""

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, inspect, select

from database.clock import now
from database.models import ApiKey, TurnStatus
from database.repositories.export_repository import EXPORTED, LEFT_OUT
from database.session import Database
from database.tenancy import content_tables
from services.principal import Principal
from services.tenant_service import TenantService
from tests.administration import Command, assert_refused
from tests.conftest import make_tenant
from tests.rows import TESTER, a_conversation, a_text, a_turn, an_item, store
from tests.test_tools.test_data_migration.conftest import make_url
from tests.test_tools.test_data_migration.copies import ODD
from tests.test_tools.test_data_migration.copies import on as work_on
from tools.data_migration.exit_status import REJECTED


async def _filled(database: Database) -> Principal:
    """A tenant with a conversation, a turn in none, one of which nothing is kept, one that runs; and another tenant."""
    principal = await make_tenant(database, "ours")
    conversation = a_conversation(user="ann", length=5, labels={"topic": ODD})
    turn = a_turn(
        principal, conversation_id=conversation.id, user="ann", parameters={"temperature": 1e-7, "stop": [ODD]}
    )
    call = {"type": "function_call", "role": "assistant", "name": "weather", "call_id": "call_1", "text": "{}"}
    output = {"type": "function_call_output", "role": "tool", "call_id": "call_1", "text": "sunny"}
    said: list[dict[str, Any]] = [{"text": ODD}, call, output, {"role": "assistant", "text": "=SUM(A1)", "answer": 0}]
    items = [
        an_item(conversation, turn_id=turn.id, position=position, **fields) for position, fields in enumerate(said)
    ]
    early = now() - timedelta(days=400)
    alone = a_turn(principal, created_at=early, user="bob", status=TurnStatus.FAILED)
    numbers, running = a_turn(principal), a_turn(principal, status=TurnStatus.RUNNING)
    await store(database, principal, conversation, turn, a_text(turn, ODD, "=SUM(A1)"), *items, running)
    await store(database, principal, alone, a_text(alone, " @cmd", "-1"), numbers)
    others = await make_tenant(database, "others")
    secret = a_turn(others)
    await store(database, others, secret, a_text(secret, "a secret"))
    return principal


@pytest.fixture
def ours(on: Command, database_url: str) -> Principal:
    return work_on(database_url, _filled)


def exported(run: Command, path: Path, *options: str) -> bytes:
    assert run("export", "--tenant", "ours", "--out", str(path), *options).status == 0
    return path.read_bytes()


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From now on, commands work on another database of this kind, which has a tenant of the same name."""

    def move(kind: str) -> None:
        url = make_url(request, tmp_path, kind)
        work_on(url, lambda database: make_tenant(database, "ours"))
        monkeypatch.setenv("CHATGLM_DATABASE_URL", url)

    return move


async def counts(database: Database, tenant_id: str) -> list[int]:
    async with database.begin(tenant_id) as session:
        return [await session.scalar(select(func.count()).select_from(model)) or 0 for model in EXPORTED]


def test_every_table_with_content_is_exported_or_left_out_for_a_reason() -> None:
    content = {str(table) for table in content_tables()}
    assert {str(inspect(model).local_table) for model in EXPORTED} | LEFT_OUT.keys() == content


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_exported_imported_elsewhere_and_exported_again_are_the_same_bytes(
    on: Command, ours: Principal, tmp_path: Path, elsewhere: Callable[[str], None], kind: str
) -> None:
    first = exported(on, tmp_path / "first.jsonl")
    assert len(first.splitlines()) == 3
    assert b"a secret" not in first
    elsewhere(kind)
    (report,) = on.json("import", "jsonl", str(tmp_path / "first.jsonl"), "--tenant", "ours")
    assert (report["records"], report["rejected"]) == (3, 0)
    assert exported(on, tmp_path / "second.jsonl") == first
    (again,) = on.json("import", "jsonl", str(tmp_path / "first.jsonl"), "--tenant", "ours")
    assert again["rows_added"] == 0
    assert on("verify").status == 0


def test_turns_brought_into_a_backup_belong_to_no_key_that_somebody_has(
    on: Command, ours: Principal, database_url: str, tmp_path: Path
) -> None:
    """Not to the one that made them, either: what it has used there says nothing of them."""
    first = exported(on, tmp_path / "first.jsonl")

    async def take_back(database: Database) -> list[str]:
        # As if the backup had been made before anything was said.
        async with database.begin(ours.tenant_id) as session:
            for model in reversed(EXPORTED):
                await session.execute(delete(model))
        async with database.begin_global() as session:
            return list(await session.scalars(select(ApiKey.id).where(ApiKey.tenant_id == ours.tenant_id)))

    keys = work_on(database_url, take_back)
    (report,) = on.json("import", "jsonl", str(tmp_path / "first.jsonl"), "--tenant", "ours")
    assert (report["records"], report["rejected"]) == (3, 0)
    again = exported(on, tmp_path / "again.jsonl")
    assert len(again.splitlines()) == len(first.splitlines())
    assert not [key for key in keys if key.encode() in again]
    assert on("verify", "--tenant", "ours").status == 0
    (second,) = on.json("import", "jsonl", str(tmp_path / "first.jsonl"), "--tenant", "ours")
    assert second["rows_added"] == 0


def test_an_export_is_nobody_elses_to_read(on: Command, ours: Principal, tmp_path: Path) -> None:
    exported(on, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o077 == 0


def test_filters_choose_whole_conversations_and_single_turns(on: Command, ours: Principal, tmp_path: Path) -> None:
    year = (now() - timedelta(days=300)).strftime("%Y-%m-%d")
    chosen = {
        ("--user", "ann"): [4],
        ("--user", "bob"): [0],
        ("--status", "failed"): [0],
        ("--status", "running"): [],
        ("--since", year): [4, 0],
        ("--until", year): [0],
        ("--user", "ann", "--until", year): [],
    }
    for options, items in chosen.items():
        lines = exported(on, tmp_path / "out.jsonl", *options).splitlines()
        assert [len(json.loads(line)["items"]) for line in lines] == items, options
    assert len(exported(on, tmp_path / "out.csv", "--format", "csv", "--status", "failed").splitlines()) == 2


def test_a_csv_has_every_turn_and_no_formula(on: Command, ours: Principal, tmp_path: Path) -> None:
    written = exported(on, tmp_path / "out.csv", "--format", "csv").decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert sorted(row["status"] for row in rows) == ["completed", "completed", "failed", "running"]
    said = {(row["prompt"], row["response"]) for row in rows}
    assert said == {("' @cmd", "'-1"), (ODD, "'=SUM(A1)"), ("", "")}
    assert not [cell for row in rows for cell in row.values() if cell.lstrip().startswith(("=", "+", "-", "@"))]


def test_openai_lines_have_messages_calls_and_results(on: Command, ours: Principal, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in exported(on, tmp_path / "out.jsonl", "--format", "openai").splitlines()]
    assert [message["role"] for message in lines[0]["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert lines[0]["messages"][1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": "{}"}
    assert lines[1]["messages"] == [{"role": "user", "content": " @cmd"}, {"role": "assistant", "content": "-1"}]


def test_importing_for_one_tenant_leaves_the_others_rows_alone(
    on: Command, ours: Principal, database_url: str, tmp_path: Path
) -> None:
    exported(on, tmp_path / "out.jsonl")
    before = exported(on, tmp_path / "before.jsonl")
    others = work_on(database_url, lambda database: make_tenant(database, "thieves"))
    ended = on("import", "jsonl", str(tmp_path / "out.jsonl"), "--tenant", "thieves", "--json")
    assert ended.status == REJECTED
    rejects = [json.loads(line) for line in (tmp_path / "out.jsonl.rejects.jsonl").read_bytes().splitlines()]
    assert [reject["number"] for reject in rejects] == [1, 2, 3]
    assert all("taken" in reject["reason"] for reject in rejects)
    assert work_on(database_url, lambda database: counts(database, others.tenant_id)) == [0, 0, 0, 0]
    assert exported(on, tmp_path / "after.jsonl") == before


def test_with_new_ids_a_tenant_is_cloned_beside_itself(
    on: Command, ours: Principal, database_url: str, tmp_path: Path
) -> None:
    exported(on, tmp_path / "out.jsonl")
    clone = work_on(database_url, lambda database: make_tenant(database, "clone"))
    for added in (10, 0):
        (report,) = on.json("import", "jsonl", str(tmp_path / "out.jsonl"), "--tenant", "clone", "--new-ids")
        assert (report["rows_added"], report["rejected"]) == (added, 0)
    assert work_on(database_url, lambda database: counts(database, clone.tenant_id)) == [1, 3, 2, 4]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record["turns"][0].update(tenant_id="0" * 32), "no column tenant_id"),
        (lambda record: record["turns"][0].pop("status"), "lacks status"),
        (lambda record: record["turns"][0].update(status="running", finished_at=None), "runs"),
        (lambda record: record["turns"][0].update(prompt_tokens="3"), "not of type int"),
        (lambda record: record["turns"][0].update(created_at="2024-07-01T00:00:00"), "no zone"),
        (lambda record: record["turns"][0].update(status="paused"), "the database refuses it"),
        (lambda record: record["texts"][0].update(prompt="a\0b"), "U+0000"),
        (lambda record: record["items"].append({}), "lacks"),
        (lambda record: record.pop("keys"), "not an object of"),
    ],
)
def test_a_record_at_fault_is_rejected_as_a_whole_and_the_others_are_imported(
    on: Command, ours: Principal, tmp_path: Path, elsewhere: Callable[[str], None], change: Any, reason: str
) -> None:
    first, *rest = exported(on, tmp_path / "out.jsonl").splitlines()
    record = json.loads(first)
    change(record)
    (tmp_path / "out.jsonl").write_bytes(b"\n".join([json.dumps(record).encode(), *rest]))
    elsewhere("sqlite")
    ended = on("import", "jsonl", str(tmp_path / "out.jsonl"), "--tenant", "ours", "--rejects", "bad.jsonl")
    assert ended.status == REJECTED
    (reject,) = [json.loads(line) for line in Path("bad.jsonl").read_bytes().splitlines()]
    assert (reject["number"], json.loads(reject["record"])) == (1, record)
    assert reason in reject["reason"]
    assert len(exported(on, tmp_path / "again.jsonl").splitlines()) == 2


def test_a_tenant_that_keeps_only_numbers_is_given_no_content(
    on: Command, ours: Principal, database_url: str, tmp_path: Path
) -> None:
    exported(on, tmp_path / "out.jsonl")

    async def numbers_only(database: Database) -> None:
        tenants = TenantService(database)
        await tenants.create(TESTER, "numbers", keeps_content=False)

    work_on(database_url, numbers_only)
    assert_refused(on("import", "jsonl", str(tmp_path / "out.jsonl"), "--tenant", "numbers"), "only numbers")
