"""The migrations make what the models say, and can be taken back, with rows present."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import func, inspect, make_url, select, text
from sqlalchemy.engine import Connection

from database.engine import create_engine
from database.models import Base, TurnStatus
from database.revision import alembic_config, is_current
from database.session import Database
from services.key_service import KeyService
from services.key_token import Peppers
from tests.conftest import SERVICE, as_owner, make_tenant, run_as_superuser
from tests.rows import TESTER, a_limit, a_turn, store, store_one_of_each
from tests.whole_database import unbound_connection

Result = TypeVar("Result")


def test_up_makes_exactly_the_tables_of_the_models(empty_database_url: str) -> None:
    config = alembic_config(empty_database_url)
    command.upgrade(config, "head")
    command.check(config)


def test_every_step_down_and_up_again_works_with_rows_in_every_table(empty_database_url: str) -> None:
    config = alembic_config(empty_database_url)
    command.upgrade(config, "head")
    _fill(empty_database_url)
    for _ in ScriptDirectory.from_config(config).walk_revisions():
        command.downgrade(config, "-1")
        command.upgrade(config, "+1")
        command.downgrade(config, "-1")
    assert _tables(empty_database_url) == {"alembic_version"}
    command.upgrade(config, "head")
    command.check(config)
    _fill(empty_database_url)


def test_up_again_keeps_every_row(empty_database_url: str) -> None:
    config = alembic_config(empty_database_url)
    command.upgrade(config, "head")
    _fill(empty_database_url)
    before = _counts(empty_database_url)
    command.upgrade(config, "head")
    assert _counts(empty_database_url) == before


def test_labels_and_calls_survive_the_way_down_and_up_of_every_tenant(database_url: str) -> None:
    _fill(database_url, counted=False)
    config = alembic_config(as_owner(database_url))
    command.downgrade(config, "0003")
    before = "SELECT parameters FROM turns", "SELECT type, text FROM items"
    parameters, items = _rows(database_url, *before)
    assert json.loads(parameters[0][0]) == {"temperature": 1.0, "metadata": {"a label": "of it"}}
    assert ("message", 'f({"a": 1})') in items
    command.upgrade(config, "head")
    (turn,) = _rows(database_url, "SELECT parameters, labels FROM turns")[0]
    assert [json.loads(column) for column in turn] == [{"temperature": 1.0}, {"a label": "of it"}]


def test_on_the_way_down_each_key_of_a_rotation_gets_limits_of_its_own_and_keeps_them_on_the_way_up(
    database_url: str,
) -> None:
    old, new = asyncio.run(_rotate_a_limited_key(database_url))
    config = alembic_config(as_owner(database_url))
    command.downgrade(config, "0007")
    command.upgrade(config, "head")
    limits, keys = _rows(
        database_url,
        "SELECT subject, turns_at_once, month_tokens, running FROM limits WHERE subject <> tenant_id ORDER BY subject",
        "SELECT limit_subject FROM api_keys",
    )
    # The running turn is the new key's.
    assert limits == [(old, "2", "30", "0"), (new, "2", "30", "1")]
    assert keys == [("null",)] * 2


def test_two_that_migrate_at_once_both_succeed(empty_database_url: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHATGLM_")}
    environment |= {"CHATGLM_DATABASE_URL": empty_database_url, "CHATGLM_SECRET": "s" * 32}
    upgrade = [sys.executable, "-m", "tools.admin", "database", "upgrade"]
    both = [
        subprocess.Popen(upgrade, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)
    ]
    ends = [(process.communicate()[0].decode(), process.returncode) for process in both]
    assert [status for _, status in ends] == [0, 0], ends
    command.check(alembic_config(empty_database_url))


def test_the_services_role_may_read_the_version_and_no_longer_write_it(
    postgres_url: str, postgres_directory: str
) -> None:
    """Wherever it could before, whatever it is called."""
    rights = "SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"

    def held() -> list[str]:
        asked = select(*(func.has_table_privilege("alembic_version", right) for right in rights))
        row = _on(postgres_url, lambda connection: connection.execute(asked).one())
        return [right for right, has in zip(rights, row, strict=True) if has]

    assert held() == ["SELECT"]
    config = alembic_config(as_owner(postgres_url))
    command.downgrade(config, "0009")
    for to in (SERVICE, "PUBLIC"):
        grant = f"GRANT ALL ON alembic_version TO {to}"
        asyncio.run(run_as_superuser(postgres_directory, str(make_url(postgres_url).database), grant))
    assert held() == [*rights]
    command.upgrade(config, "head")
    assert held() == ["SELECT"]
    command.check(config)


async def test_a_database_without_migrations_is_not_current(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url, makes_file=True)
    assert not await is_current(engine)
    await engine.dispose()


async def test_a_migrated_database_is_current(database_url: str) -> None:
    engine = create_engine(database_url)
    assert await is_current(engine)
    await engine.dispose()


def test_a_database_that_was_taken_back_is_not_current(database_url: str) -> None:
    command.downgrade(alembic_config(as_owner(database_url)), "-1")

    async def current() -> bool:
        engine = create_engine(database_url)
        try:
            return await is_current(engine)
        finally:
            await engine.dispose()

    assert not asyncio.run(current())


@pytest.mark.parametrize("name", sorted(Base.metadata.tables))
def test_every_constraint_and_index_has_a_name_that_a_migration_can_drop(name: str) -> None:
    table = Base.metadata.tables[name]
    assert all(constraint.name for constraint in table.constraints)
    assert all(index.name for index in table.indexes)


def _fill(url: str, *, counted: bool = True) -> None:
    async def fill() -> None:
        database = Database(create_engine(url))
        await store_one_of_each(database, await make_tenant(database, "somebody"))
        await database.close()

    asyncio.run(fill())
    # Under the service's role, nothing is seen without a tenant.
    assert not counted or [name for name, count in _counts(url).items() if not count] == []


async def _rotate_a_limited_key(url: str) -> tuple[str, str]:
    database = Database(create_engine(url))
    old = await make_tenant(database, "somebody")
    used = {"turns_at_once": 2, "month_tokens": 30, "running": 1}
    await store(database, old, a_limit(old.tenant_id, **used), a_limit(old.key_id, **used))
    made = await KeyService(database, Peppers(b"s" * 32)).rotate(TESTER, old.tenant_id, old.key_id, timedelta(hours=1))
    new = replace(old, key_id=made.row.id)
    await store(database, old, a_turn(new, status=TurnStatus.RUNNING))
    await database.close()
    return old.key_id, new.key_id


def _rows(url: str, *statements: str) -> list[list[tuple[str, ...]]]:
    async def rows() -> list[list[tuple[str, ...]]]:
        async with unbound_connection(url) as connection:
            found = [(await connection.execute(text(statement))).all() for statement in statements]
        return [
            [tuple(one if isinstance(one, str) else json.dumps(one) for one in row) for row in each] for each in found
        ]

    return asyncio.run(rows())


def _counts(url: str) -> dict[str, int]:
    return _on(
        url,
        lambda connection: {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        },
    )


def _tables(url: str) -> set[str]:
    return _on(url, lambda connection: set(inspect(connection).get_table_names()))


def _on(url: str, work: Callable[[Connection], Result]) -> Result:
    async def opened() -> Result:
        engine = create_engine(url)
        async with engine.connect() as connection:
            result = await connection.run_sync(work)
        await engine.dispose()
        return result

    return asyncio.run(opened())
