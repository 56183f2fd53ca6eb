"""Engines: which databases there are, and how SQLite is made safe."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from app.common.errors import DatabaseUnavailable
from database.clock import now
from database.engine import create_engine, database_url, same_database
from database.identifier import new_id
from database.models import Tenant
from database.session import Database


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:///a.db", "sqlite+aiosqlite"),
        ("sqlite+aiosqlite:///a.db", "sqlite+aiosqlite"),
        ("postgres://user@host/name", "postgresql+asyncpg"),
        ("postgresql://user@host/name", "postgresql+asyncpg"),
        ("postgresql+asyncpg://user@host/name", "postgresql+asyncpg"),
    ],
)
def test_the_driver_is_chosen_by_the_service(given: str, driver: str) -> None:
    assert database_url(given).drivername == driver


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("postgresql://one:secret@db/x", "postgres://other@db:5432/x", True),
        ("postgresql://db/x", "postgresql://db/y", False),
        ("postgresql://db/x", "postgresql://elsewhere/x", False),
        ("postgresql:///x?host=/run/one", "postgresql:///x?host=/run/other", False),
        ("sqlite:///data/x.db", "sqlite+aiosqlite:///data/../data/x.db", True),
        ("sqlite:///x.db", "sqlite:///y.db", False),
    ],
)
def test_a_database_is_recognised_by_where_it_is(one: str, other: str, same: bool) -> None:
    assert same_database(one, other) is same


@pytest.mark.parametrize(
    "url",
    ["mysql://u:hush@host/name", "postgresql+psycopg://u:hush@host/name", "oracle://u:hush@host", "sqlite+x:///a"],
)
def test_an_unsupported_database_is_refused_by_its_name_alone(url: str) -> None:
    with pytest.raises(ValueError, match="unsupported database") as caught:
        database_url(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "nonsense", "postgresql//u:hush@host", "postgresql://u:hush@host:port/name"])
def test_what_is_no_url_is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(ValueError, match="not the URL of a database") as caught:
        database_url(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://u:ha@hush@host/name", "postgresql://u:ha@host/hu@hush/name"])
def test_a_password_that_would_be_taken_for_a_name_is_refused_before_anybody_hears_it(url: str) -> None:
    with pytest.raises(ValueError, match="write @ as %40") as caught:
        database_url(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://data/chatglm.db", "sqlite://u:hush@/chatglm.db"])
def test_a_file_with_a_host_is_refused_since_only_its_last_part_would_be_taken(url: str) -> None:
    with pytest.raises(ValueError, match="with three slashes") as caught:
        database_url(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused_since_nobody_else_would_see_it(url: str) -> None:
    with pytest.raises(ValueError, match="in memory"):
        database_url(url)


async def test_sqlite_keeps_what_it_confirmed_and_checks_references(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'new' / 'folder' / 'a.db'}", makes_file=True)
    async with engine.connect() as connection:
        pragmas = {
            name: (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    await engine.dispose()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


async def test_a_new_file_that_another_process_is_making_too_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, loop, connect = tmp_path / "a.db", asyncio.get_running_loop(), sqlite3.connect
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")

        def release(statement: str) -> None:
            if statement == "BEGIN EXCLUSIVE":
                loop.call_soon_threadsafe(other.rollback)

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            made: sqlite3.Connection = connect(*arguments, **options)
            made.set_trace_callback(release)
            return made

        monkeypatch.setattr(sqlite3, "connect", traced)
        database = Database(create_engine(f"sqlite:///{path}"))
        await database.ping()
        await database.close()


def test_a_file_that_is_no_database_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    text = "hello, this is no database, but a text of some length"
    (tmp_path / "text").write_text(text)
    for path, reason in ((tmp_path / "text", "file is not a database"), (tmp_path, "unable to open database file")):
        for makes_file in (False, True):
            with pytest.raises(DatabaseUnavailable) as caught:
                create_engine(f"sqlite:///{path}", makes_file=makes_file)
            assert caught.value.message == f"The database's file {path} cannot be used: {reason}."
    assert (tmp_path / "text").read_text() == text


async def test_a_path_from_the_home_directory_is_found_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    database = Database(create_engine("sqlite:///~/folder/a.db", makes_file=True))
    await database.ping()
    await database.close()
    assert (tmp_path / "folder" / "a.db").exists()


async def test_two_writers_that_check_then_write_on_sqlite_do_not_both_find_nothing(
    tmp_path: Path, migrated_sqlite: Path
) -> None:
    path = shutil.copy(migrated_sqlite, tmp_path / "shared.db")
    # Two engines, since one has one connection and would queue them itself.
    writers = [Database(create_engine(f"sqlite:///{path}")) for _ in range(2)]
    name = new_id()

    async def ensure(database: Database) -> bool:
        async with database.begin_global() as session:
            missing = (await session.scalars(select(Tenant).where(Tenant.name.startswith(name)))).first() is None
            if missing:
                at = now()
                session.add(Tenant(id=new_id(at), name=f"{name} {new_id()}", created_at=at))
            return missing

    for _ in range(5):
        name = new_id()
        made = await asyncio.gather(*(ensure(writer) for writer in writers * 4))
        assert made.count(True) == 1
    for writer in writers:
        await writer.close()
