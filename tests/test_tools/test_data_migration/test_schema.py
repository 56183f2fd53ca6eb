"""Upgrade and downgrade look at who would have to live with the schema."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command

from app.instance import claim_instance
from database.engine import create_engine
from database.pending_migrations import disturbing, pending
from database.read_only import refuse_writes
from database.revision import alembic_config
from database.session import Database
from tests.administration import Admin, Command, assert_refused
from tests.conftest import as_owner
from tests.test_tools.test_data_migration.copies import on as work_on


@pytest.fixture
def owner(on: Command, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("CHATGLM_MIGRATION_DATABASE_URL", as_owner(database_url))
    return on


@contextmanager
def a_running_service(url: str) -> Iterator[None]:
    """As far as others can tell: its claim on the data directory, and its sessions."""
    with claim_instance(Path("data")):
        engine = create_engine(url)

        async def connect() -> None:
            await Database(engine).ping()

        with asyncio.Runner() as runner:
            runner.run(connect())
            yield
            runner.run(engine.dispose())


def test_an_empty_database_is_brought_up_to_date(run: Command, empty_database_url: str) -> None:
    for _ in range(2):
        ended = run("upgrade", "--url", empty_database_url)
        assert (ended.status, ended.output.splitlines()[-1]) == (0, "up to date")
        assert "backup" in ended.errors
    command.check(alembic_config(empty_database_url))


def test_an_url_that_is_none_and_a_database_that_is_not_there_are_refused(run: Command, tmp_path: Path) -> None:
    for arguments in (("upgrade",), ("downgrade", "0003")):
        ended = run(*arguments, "--url", "sqlite://data/chatglm.db")
        assert (ended.status, "with three slashes" in " ".join(ended.errors.split())) == (2, True)
    assert_refused(run("downgrade", "0003", "--url", f"sqlite:///{tmp_path}/mistyped/x.db"), "There is no database")
    assert not (tmp_path / "mistyped").exists()


def test_nothing_is_taken_back_from_under_a_running_service(owner: Command, database_url: str) -> None:
    with a_running_service(database_url):
        assert_refused(owner("downgrade", "0003"), "Stop the service first")
        assert owner("upgrade").status == 0
    assert owner("downgrade", "0003").status == 0


def test_a_running_services_file_is_known_however_its_url_is_written(
    run: Command, migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'a.db')}"
    monkeypatch.setenv("CHATGLM_DATABASE_URL", url)
    with a_running_service(url):
        for written in (os.path.relpath(tmp_path / "a.db"), f"{tmp_path}/../{tmp_path.name}/a.db"):
            assert_refused(run("downgrade", "0003", "--url", f"sqlite:///{written}"), "Stop the service first")


def test_the_other_command_line_takes_nothing_back_either(
    owner: Command, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert owner("upgrade").status == 0
    admin = Admin(monkeypatch, capsys)
    with a_running_service(database_url):
        ended = admin("database", "downgrade", "base")
        assert_refused(ended, "Stop the service first")
        assert "Is there a backup?" in ended.errors
        assert admin("tenant", "list").status == 0
    assert admin("database", "downgrade", "base").status == 0


def test_a_running_service_is_not_given_a_schema_that_it_may_not_live_with(owner: Command, database_url: str) -> None:
    assert owner("downgrade", "0003").status == 0
    with a_running_service(database_url):
        assert_refused(owner("upgrade"), "ADD CONSTRAINT uq_items_tenant_id_turn_id_position")
        assert owner("upgrade", "--force").status == 0
    assert owner("upgrade").status == 0


def test_a_running_service_lives_with_what_is_only_added(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url, makes_file=True)

    async def lacking() -> list[str]:
        try:
            return await pending(engine)
        finally:
            await engine.dispose()

    revisions = asyncio.run(lacking())
    assert revisions[:2] == ["0001", "0002"]
    # New tables with all that belongs to them; then constraints on those that are there.
    assert disturbing(revisions[:1]) == disturbing(["0010"]) == []
    assert any("ENABLE ROW LEVEL SECURITY" in statement for statement in disturbing(["0002"]))
    assert not any("ADD COLUMN" in statement for statement in disturbing(revisions))


def test_a_database_that_is_being_copied_is_not_migrated(owner: Command, database_url: str) -> None:
    async def freeze(_database: Database) -> None:
        engine = create_engine(as_owner(database_url))
        await refuse_writes(engine)
        await engine.dispose()

    work_on(database_url, freeze)
    assert_refused(owner("downgrade", "0003"), "is being copied")
    assert_refused(owner("upgrade"), "is being copied")
