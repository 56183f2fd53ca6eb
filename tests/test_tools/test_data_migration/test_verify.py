"""Every kind of damage is found and listed, and a database without any passes."""

import asyncio
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import ForeignKeyConstraint, Table, select, update
from sqlalchemy import make_url as make_sqlalchemy_url

from database.clock import now
from database.identifier import new_id
from database.models import Base, Conversation, Item, Lease, Limit, Turn, TurnStatus, Usage
from database.session import Database
from services.key_service import KeyService
from services.key_token import Peppers
from services.principal import Principal
from tests.administration import Command, rows_of
from tests.conftest import make_tenant, run_as_superuser
from tests.rows import (
    TESTER,
    a_conversation,
    a_lease,
    a_limit,
    a_text,
    a_turn,
    a_usage,
    an_item,
    store,
    store_one_of_each,
)
from tests.test_tools.test_data_migration.conftest import make_url
from tests.test_tools.test_data_migration.copies import on as work_on

_SUMS = {"cancelled": 0, "failed": 0, "prompt_tokens": 3, "cached_tokens": 0, "completion_tokens": 0}


async def _sound(database: Database) -> Principal:
    """A tenant whose rows agree: a conversation with a turn, and a turn that runs."""
    principal = await make_tenant(database, "ours")
    conversation = a_conversation(length=2)
    turn, running = a_turn(principal, conversation_id=conversation.id), a_turn(principal, status=TurnStatus.RUNNING)
    said = [an_item(conversation, turn_id=turn.id, position=position) for position in range(2)]
    await store(database, principal, conversation, turn, running, a_text(turn), *said, a_lease(principal, running.id))
    await store(database, principal, a_limit(principal.tenant_id, running=1), a_usage(principal, **_SUMS))
    return principal


async def _one_of_each(database: Database) -> None:
    await store_one_of_each(database, await make_tenant(database, "ours"))


def _found(on: Command, status: int) -> list[str]:
    ended = on("verify", "--json")
    assert ended.status == status, ended
    return [row["check"] for row in rows_of(ended)]


@pytest.fixture
def ours(on: Command, database_url: str) -> Principal:
    return work_on(database_url, _sound)


def test_a_sound_database_passes(on: Command, ours: Principal) -> None:
    assert _found(on, 0) == []
    assert on("verify", "--tenant", "ours").output.strip() == "none"


def test_limits_that_a_rotation_shares_count_the_turns_of_all_its_keys(
    on: Command, database_url: str, ours: Principal
) -> None:
    async def rotate(database: Database) -> None:
        keys = KeyService(database, Peppers(b"s" * 32))
        made = await keys.rotate(TESTER, ours.tenant_id, ours.key_id, timedelta(hours=1))
        turn = a_turn(replace(ours, key_id=made.row.id), status=TurnStatus.RUNNING)
        await store(database, ours, turn, a_lease(ours, turn.id), a_limit(ours.key_id, running=2))
        async with database.begin(ours.tenant_id) as session:
            (await session.get_one(Limit, (ours.tenant_id, ours.tenant_id))).running = 2

    work_on(database_url, rotate)
    assert _found(on, 0) == []


_DAMAGE = {
    "state": update(Lease).values(turn_id="0" * 32),
    "limit": update(Limit).values(running=7),
    "position": update(Conversation).values(length=1),
    "usage": update(Usage).values(prompt_tokens=2),
}


@pytest.mark.parametrize("check", _DAMAGE)
def test_damage_is_found(on: Command, ours: Principal, database_url: str, check: str) -> None:
    async def damage(database: Database) -> None:
        async with database.begin(ours.tenant_id) as session:
            await session.execute(_DAMAGE[check])

    work_on(database_url, damage)
    assert check in _found(on, 1)


def test_a_lease_that_has_expired_and_one_of_a_turn_that_ended_are_found(
    on: Command, ours: Principal, database_url: str
) -> None:
    async def expire(database: Database) -> None:
        async with database.begin(ours.tenant_id) as session:
            await session.execute(update(Lease).values(expires_at=now() - timedelta(minutes=5)))
            ended = await session.scalar(select(Turn.id).where(Turn.status == TurnStatus.COMPLETED))
            session.add(a_lease(ours, ended or ""))

    work_on(database_url, expire)
    ended = on("verify")
    assert ended.status == 1
    assert "has expired" in ended.output
    assert "which does not run" in ended.output


def test_usage_that_is_missing_altogether_is_found(on: Command, ours: Principal, database_url: str) -> None:
    work_on(database_url, lambda database: store(database, ours, a_turn(ours, model="another")))
    assert _found(on, 1) == ["usage"]


def test_what_an_erasure_leaves_behind_is_not_wrong(on: Command, ours: Principal, database_url: str) -> None:
    async def erase(database: Database) -> None:
        async with database.begin(ours.tenant_id) as session:
            item = await session.scalar(select(Item).where(Item.position == 0))
            await session.delete(item)
            await session.execute(update(Usage).values(requests=5, prompt_tokens=99))

    work_on(database_url, erase)
    assert _found(on, 0) == ["gap"]


_REFERENCES = [
    (table, constraint)
    for table in Base.metadata.sorted_tables
    # They are a set; and processes that share the tests must all find them in one order.
    for constraint in sorted(table.foreign_key_constraints, key=lambda one: str(one.name))
    if constraint.referred_table.name != "tenants"
]


@pytest.mark.parametrize(("table", "constraint"), _REFERENCES, ids=lambda one: str(one.name))
def test_a_row_that_refers_to_nothing_is_found(
    on: Command, database_url: str, table: Table, constraint: ForeignKeyConstraint
) -> None:
    """Whatever table has a foreign key, or will have one."""
    work_on(database_url, _one_of_each)
    (column,) = (one.parent.name for one in constraint.elements if one.parent.name != "tenant_id")
    asyncio.run(_unchecked(database_url, f"UPDATE {table.name} SET {column} = '{new_id()}'"))  # noqa: S608
    ended = on("verify", "--json")
    assert ended.status == 1
    assert any(str(constraint.name) in row["what"] for row in rows_of(ended)), ended


def test_rows_of_a_tenant_deleted_by_hand_are_found(
    run: Command, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_url(request, tmp_path, "sqlite")
    monkeypatch.setenv("CHATGLM_DATABASE_URL", url)
    work_on(url, _sound)
    asyncio.run(_unchecked(url, "DELETE FROM tenants"))
    ended = run("verify", "--json")
    assert ended.status == 1
    assert {row["check"] for row in rows_of(ended)} == {"orphan"}


async def _unchecked(url: str, sql: str) -> None:
    """Run this with no foreign key enforced, as a careless restore would."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        connection.execute(sql)
        connection.commit()
        connection.close()
    else:
        parsed = make_sqlalchemy_url(url)
        await run_as_superuser(
            str(parsed.query["host"]), str(parsed.database), f"SET session_replication_role = replica; {sql}"
        )
