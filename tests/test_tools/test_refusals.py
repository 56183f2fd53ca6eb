"""What databases refuse to an administrator: said in a sentence that says what to do, by every command."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from database.identifier import new_id
from tests.administration import Admin, Command, assert_refused
from tests.conftest import SERVICE, create_postgres, run_as_superuser
from tests.process import environment, run_module
from tools.data_migration import __main__ as data_migration

_OWNER = "Migrate as the owner that database/roles.sql makes"


@pytest.fixture
def nobodys_url(postgres_directory: str) -> Iterator[str]:
    """An empty database, under a role that has no right there but to log in."""
    role = f"role_{new_id()}"
    url = create_postgres(postgres_directory, f"test_{new_id()}")
    asyncio.run(run_as_superuser(postgres_directory, "postgres", f"CREATE ROLE {role} LOGIN"))
    yield url.replace("//postgres@", f"//{role}@")
    asyncio.run(run_as_superuser(postgres_directory, "postgres", f"DROP ROLE {role}"))


def as_superuser(url: str) -> str:
    return url.replace(f"//{make_url(url).username}@", "//postgres@")


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`python -m tools.data_migration`."""
    return Command("tools.data_migration", data_migration.main, monkeypatch, capsys)


def test_a_role_that_may_not_make_tables_is_told_who_may(
    run: Admin, moving: Command, nobodys_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATGLM_DATABASE_URL", nobodys_url)
    for ended in (run("database", "upgrade"), moving("upgrade")):
        assert_refused(ended, "permission denied for schema public. " + _OWNER)


def test_a_role_without_rights_on_the_tables_is_told_where_they_come_from(
    run: Admin, moving: Command, nobodys_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATGLM_DATABASE_URL", as_superuser(nobodys_url))
    assert run("database", "upgrade").status == 0
    monkeypatch.setenv("CHATGLM_DATABASE_URL", nobodys_url)
    for ended in (run("tenant", "list"), moving("verify"), moving("purge")):
        assert_refused(ended, "permission denied for table alembic_version. " + _OWNER)


def test_a_service_does_not_start_whose_turns_would_all_fail(
    postgres_directory: str, postgres_url: str, tmp_path: Path
) -> None:
    name = str(make_url(postgres_url).database)
    asyncio.run(run_as_superuser(postgres_directory, name, f"REVOKE INSERT ON turns FROM {SERVICE}"))
    done = run_module("app", env=environment(tmp_path, database_url=postgres_url, secret="s" * 40))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert f"The role of CHATGLM_DATABASE_URL has no right to INSERT on turns. {_OWNER}" in done.stderr


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        ("nobody:hush@/postgres", 'role "nobody" does not exist'),
        ("postgres:hush@/nothing", 'database "nothing" does not exist'),
        ("pg_monitor:hush@/postgres", 'role "pg_monitor" is not permitted to log in'),
    ],
)
def test_a_login_that_is_refused_is_said_with_the_reason_and_without_the_password(
    run: Admin, moving: Command, postgres_directory: str, monkeypatch: pytest.MonkeyPatch, login: str, reason: str
) -> None:
    monkeypatch.setenv("CHATGLM_DATABASE_URL", f"postgresql://{login}?host={postgres_directory}")
    for ended in (run("tenant", "list"), run("database", "upgrade"), moving("upgrade"), moving("purge")):
        assert_refused(ended, f"The database cannot answer now; try again. It says: {reason}.")


def test_a_service_that_cannot_log_in_says_why(postgres_directory: str, tmp_path: Path) -> None:
    url = f"postgresql://nobody:hush@/postgres?host={postgres_directory}"
    done = run_module("app", env=environment(tmp_path, database_url=url, secret="s" * 40))
    assert (done.returncode, "Traceback" in done.stderr, "hush" in done.stderr) == (2, False, False)
    assert 'It says: role "nobody" does not exist.' in done.stderr


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite://data/chatglm.db", "CHATGLM_DATABASE_URL: Value error, a file has no host: use sqlite:///path"),
        ("sqlite:///text", "The database's file text cannot be used: file is not a database."),
        ("sqlite:///text/chatglm.db", "The database's file text/chatglm.db cannot be used: its directory is a file."),
        ("sqlite:////proc/no/chatglm.db", "/proc/no/chatglm.db"),
    ],
)
def test_a_file_that_can_be_no_database_is_said_by_every_command(
    run: Admin, moving: Command, monkeypatch: pytest.MonkeyPatch, url: str, sentence: str
) -> None:
    Path("text").write_text("hello, this is no database, but a text of some length")
    monkeypatch.setenv("CHATGLM_DATABASE_URL", url)
    commands = (("database", "upgrade"), ("tenant", "list"), ("key", "create", "acme"), ("purge",))
    for ended in (*(run(*command) for command in commands), moving("upgrade"), moving("verify")):
        assert_refused(ended, sentence)


def test_only_an_upgrade_makes_a_database(run: Admin, moving: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATGLM_DATABASE_URL", "sqlite:///mistyped/chatglm.db")
    for ended in (run("tenant", "list"), run("database", "downgrade", "base"), moving("verify"), moving("purge")):
        assert_refused(ended, "There is no database mistyped/chatglm.db: put its URL right, or make one by")
    assert not Path("mistyped").exists()
    assert run("database", "upgrade").status == 0
    assert run("tenant", "list").status == 0


@pytest.mark.parametrize("where", ["text", "text/data", "/proc/no"])
def test_a_data_directory_that_can_be_none_is_said(run: Admin, tmp_path: Path, where: str) -> None:
    (tmp_path / "text").touch()
    directory = tmp_path / where
    env = environment(directory)
    for module, *arguments in (("app", "--upgrade"), ("tools.admin", "database", "upgrade"), ("tools.admin", "purge")):
        done = run_module(module, *arguments, env=env)
        assert done.returncode == (2 if module == "app" else 1)
        assert "Traceback" not in done.stderr
        assert str(directory) in done.stderr


def test_a_service_makes_no_database_unless_it_is_to_upgrade_one(tmp_path: Path) -> None:
    done = run_module("app", env=environment(tmp_path))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert f"There is no database {tmp_path / 'chatglm.db'}" in done.stderr
    assert not (tmp_path / "chatglm.db").exists()
