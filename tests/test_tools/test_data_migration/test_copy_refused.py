"""What a copy refuses, and what it says when two databases differ."""

import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import update

from database.models import TurnStatus, TurnText
from database.session import Database
from tests.administration import Command, assert_refused
from tests.rows import a_lease, a_text, a_turn, store
from tests.test_tools.test_data_migration.conftest import make_url
from tests.test_tools.test_data_migration.copies import ODD, copied, fill, on
from tools.data_migration.exit_status import DIFFERENT


def test_rows_of_somebody_else_in_the_target_are_told_and_nothing_is_done(
    run: Command, unlike_urls: tuple[str, str]
) -> None:
    fill(unlike_urls[0], "ours")
    fill(unlike_urls[1], "somebody else")
    ended = run("copy", "--from", unlike_urls[0], "--to", unlike_urls[1], "--json")
    assert ended.status == DIFFERENT
    assert "The two sides differ" in ended.errors
    tables = {row["table"]: row for row in json.loads(ended.output)}
    assert (tables["tenants"]["source_rows"], tables["tenants"]["target_rows"]) == (1, 2)
    assert not tables["tenants"]["equal"]


def test_a_row_that_was_changed_in_the_target_is_found(run: Command, unlike_urls: tuple[str, str]) -> None:
    (ours,) = fill(unlike_urls[0], "ours")
    copied(run, unlike_urls)

    async def change(database: Database) -> None:
        async with database.begin(ours.tenant_id) as session:
            await session.execute(update(TurnText).values(prompt="forged").where(TurnText.prompt == ODD))

    on(unlike_urls[1], change)
    ended = run("copy", "--from", unlike_urls[0], "--to", unlike_urls[1], "--json")
    assert ended.status == DIFFERENT
    assert [row["table"] for row in json.loads(ended.output) if not row["equal"]] == ["turn_texts"]


def test_running_turns_are_waited_for_and_then_the_source_is_left_alone(
    run: Command, unlike_urls: tuple[str, str]
) -> None:
    (ours,) = fill(unlike_urls[0], "ours")
    running = a_turn(ours, status=TurnStatus.RUNNING)
    on(unlike_urls[0], lambda database: store(database, ours, running, a_lease(ours, running.id)))
    ended = run("copy", "--from", unlike_urls[0], "--to", unlike_urls[1], "--wait", "0")
    assert_refused(ended, "1 turns are still running")
    on(unlike_urls[0], lambda database: store(database, ours, a_turn(ours)))


@pytest.mark.parametrize(("column", "value"), [("prompt", "a\0b"), ("user", "x" * 257)])
def test_a_row_that_postgresql_cannot_hold_is_named(
    run: Command, request: pytest.FixtureRequest, tmp_path: Path, column: str, value: str
) -> None:
    urls = make_url(request, tmp_path, "sqlite"), make_url(request, tmp_path, "postgresql")
    (ours,) = fill(urls[0], "ours")
    turn = a_turn(ours, user=value if column == "user" else None)
    on(urls[0], lambda database: store(database, ours, turn, a_text(turn, value)))
    ended = run("copy", "--from", urls[0], "--to", urls[1])
    assert_refused(ended, turn.id)


def test_what_cannot_be_copied_is_said_in_a_sentence(
    run: Command, postgres_url: str, migrated_sqlite: Path, tmp_path: Path
) -> None:
    source = f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'source.db')}"
    (tmp_path / "empty.db").touch()
    for target, sentence in (
        (source, "the same database"),
        (f"sqlite:///{tmp_path}/none.db", "There is no file"),
        (f"sqlite:///{tmp_path}/empty.db", "is not of this version"),
        ("postgresql://hush:hush@127.0.0.1:1/none", "cannot be reached"),
    ):
        assert_refused(run("copy", "--from", source, "--to", target), sentence)
    assert_refused(run("copy", "--from", postgres_url, "--to", source), "use the URL of their owner")
    assert run("copy", "--from", source, "--to", "mysql://hush@somewhere/x").status == 2
    assert_refused(run("copy", "--from", source, "--to", postgres_url, "--tenant", "nobody"), "There is no tenant")
