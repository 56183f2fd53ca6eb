"""Turns change their state once, and tell a busy conversation from every other broken constraint."""

import pytest
from sqlalchemy.exc import IntegrityError

from database.clock import now
from database.identifier import new_id
from database.models import TurnStatus
from database.repositories import turn_statements
from database.repositories.turn_repository import TurnRepository
from database.session import Database
from tests.conftest import TwoTenants
from tests.rows import a_conversation, a_turn, store


async def test_only_the_rule_of_one_running_turn_says_that_a_conversation_is_busy(
    database: Database, tenants: TwoTenants
) -> None:
    conversation = a_conversation()
    first = a_turn(tenants.ours, conversation_id=conversation.id, status=TurnStatus.RUNNING)
    await store(database, tenants.ours, conversation, first)
    for is_busy, columns in (
        (True, {"conversation_id": conversation.id, "status": TurnStatus.RUNNING}),
        (False, {"id": first.id, "status": TurnStatus.RUNNING}),
        (False, {"conversation_id": new_id(), "status": TurnStatus.RUNNING}),
        (False, {"key_id": new_id(), "status": TurnStatus.RUNNING}),
        (False, {"status": "no such state", "finished_at": now()}),
        (False, {"status": TurnStatus.RUNNING, "finished_at": now()}),
        (False, {"status": TurnStatus.COMPLETED, "finished_at": None}),
    ):
        with pytest.raises(IntegrityError) as error:
            await store(database, tenants.ours, a_turn(tenants.ours, **columns))
        assert turn_statements.is_busy(error.value) is is_busy, columns


async def test_a_key_of_another_tenant_cannot_make_a_turn(database: Database, tenants: TwoTenants) -> None:
    with pytest.raises(IntegrityError):
        await store(database, tenants.ours, a_turn(tenants.ours, key_id=tenants.theirs.key_id))


async def test_a_conversation_has_any_number_of_ended_turns(database: Database, tenants: TwoTenants) -> None:
    conversation = a_conversation()
    ended = [a_turn(tenants.ours, conversation_id=conversation.id) for _ in range(3)]
    await store(database, tenants.ours, conversation, *ended)
    running = a_turn(tenants.ours, conversation_id=conversation.id, status=TurnStatus.RUNNING)
    await store(database, tenants.ours, running)
    async with database.begin(tenants.ours.tenant_id) as session:
        turns = TurnRepository(session)
        assert await turns.is_running(running.id)
        assert not await turns.is_running(ended[0].id)


async def test_turns_without_a_conversation_run_side_by_side(database: Database, tenants: TwoTenants) -> None:
    for _ in range(2):
        await store(database, tenants.ours, a_turn(tenants.ours, status=TurnStatus.RUNNING))


async def test_another_tenants_running_turn_is_neither_seen_nor_touched(
    database: Database, tenants: TwoTenants
) -> None:
    conversation = a_conversation()
    turn = a_turn(tenants.theirs, conversation_id=conversation.id, status=TurnStatus.RUNNING)
    await store(database, tenants.theirs, conversation, turn)
    async with database.begin(tenants.ours.tenant_id) as session:
        turns = TurnRepository(session)
        assert not await turns.is_running(turn.id)
        assert await turns.running(turn.id) is None
    async with database.begin(tenants.theirs.tenant_id) as session:
        assert await TurnRepository(session).is_running(turn.id)
