"""The data migration tool, run in the test's own process, and pairs of databases to copy between."""

import shutil
from pathlib import Path

import pytest

from database.identifier import new_id
from tests.administration import SECRET, Command
from tests.conftest import OWNER, create_postgres
from tools.data_migration import __main__ as data_migration


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHATGLM_SECRET", SECRET)
    monkeypatch.setenv("COLUMNS", "60")
    return Command("tools.data_migration", data_migration.main, monkeypatch, capsys)


@pytest.fixture
def on(run: Command, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """With the settings of a migrated database."""
    monkeypatch.setenv("CHATGLM_DATABASE_URL", database_url)
    return run


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite", "sqlite to sqlite", "postgresql to postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A source and a target, migrated and empty; PostgreSQL's under their owner."""
    source, target = request.param.split(" to ")
    return make_url(request, tmp_path, source), make_url(request, tmp_path, target)


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite"])
def unlike_urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A source and a target of different kinds."""
    source, target = request.param.split(" to ")
    return make_url(request, tmp_path, source), make_url(request, tmp_path, target)


def make_url(request: pytest.FixtureRequest, directory: Path, kind: str) -> str:
    if kind == "sqlite":
        path = directory / f"{new_id()}.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        return f"sqlite:///{path}"
    request.getfixturevalue("migrated_postgres")
    server = request.getfixturevalue("postgres_directory")
    return create_postgres(server, f"test_{new_id()}", "migrated", role=OWNER)
