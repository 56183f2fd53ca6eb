"""Two clocks: turns from their beginning, conversations from their last use."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import ColumnElement, select

from app.common.errors import Unavailable
from database.clock import now
from database.identifier import new_id
from database.models import Conversation, IdempotencyKey, Item, Turn, TurnStatus
from database.repositories.erasure_repository import ErasureRepository
from database.session import Database
from services.audit_service import AuditService
from services.idempotency_claim import KEPT
from services.principal import Principal
from services.retention_service import RetentionService
from services.tenant_service import TenantService
from tests.conftest import TwoTenants
from tests.rows import TESTER, a_conversation, a_text, a_turn, an_idempotency_key, an_item, store

_DAY = timedelta(days=1)


@pytest.fixture
def retention(database: Database) -> RetentionService:
    """In batches that are smaller than what is purged."""
    return RetentionService(database, batch=2, interval=3600)


async def _said(database: Database, principal: Principal, days_ago: float, *, used: float | None = None) -> str:
    """A conversation that began so many days ago, with a brought item and a turn, last used `used` days ago; its id."""
    began = now() - days_ago * _DAY
    last = began if used is None else now() - used * _DAY
    conversation = a_conversation(id=new_id(began), created_at=began, used_at=last)
    turn = a_turn(principal, id=new_id(began), created_at=began, conversation_id=conversation.id)
    items = [
        an_item(conversation, id=new_id(began), created_at=began, position=0),
        an_item(conversation, id=new_id(began), created_at=began, position=1, turn_id=turn.id),
    ]
    await store(database, principal, conversation, turn, a_text(turn), *items)
    return conversation.id


async def _left(database: Database, principal: Principal) -> tuple[set[str], set[str | None], set[str | None]]:
    """The conversations that are left, those that have turns left, and those that have items left."""
    async with database.begin(principal.tenant_id) as session:
        return (
            set(await session.scalars(select(Conversation.id))),
            set(await session.scalars(select(Turn.conversation_id))),
            set(await session.scalars(select(Item.conversation_id))),
        )


async def test_without_clocks_everything_is_kept(
    database: Database, tenants: TwoTenants, retention: RetentionService
) -> None:
    old = await _said(database, tenants.ours, 10_000)
    assert await retention.purge(TESTER) == {}
    assert await _left(database, tenants.ours) == ({old}, {old}, {old})


async def test_turns_are_deleted_so_long_after_they_began_however_lately_their_conversation_was_used(
    database: Database, tenants: TwoTenants, retention: RetentionService
) -> None:
    await TenantService(database).change(TESTER, tenants.ours.tenant_id, turn_days=7)
    old = [await _said(database, tenants.ours, 7.01, used=0) for _ in range(3)]
    young = await _said(database, tenants.ours, 6.99)
    assert await retention.preview() == await retention.purge(TESTER) == {"turns": 3, "turn_texts": 3, "items": 6}
    assert await _left(database, tenants.ours) == ({*old, young}, {young}, {young})
    assert await retention.purge(TESTER) == {}


async def test_stored_turns_go_with_all_that_the_model_was_told(
    database: Database, tenants: TwoTenants, retention: RetentionService
) -> None:
    await TenantService(database).change(TESTER, tenants.ours.tenant_id, turn_days=7)
    began = now() - 8 * _DAY
    turn = a_turn(tenants.ours, id=new_id(began), created_at=began, stored=True, labels={"a": "b"})
    told = [an_item(a_conversation(), conversation_id=None, turn_id=turn.id, position=at) for at in range(5)]
    await store(database, tenants.ours, turn, a_text(turn), *told)
    assert await retention.purge(TESTER) == {"turns": 1, "turn_texts": 1, "items": 5}


async def test_conversations_are_deleted_so_long_after_their_last_use_with_all_their_turns(
    database: Database, tenants: TwoTenants, retention: RetentionService
) -> None:
    await TenantService(database).change(TESTER, tenants.ours.tenant_id, conversation_days=7)
    for _ in range(3):
        await _said(database, tenants.ours, 20, used=7.01)
    used = await _said(database, tenants.ours, 20, used=6.99)
    assert (
        await retention.preview()
        == await retention.purge(TESTER)
        == {"conversations": 3, "turns": 3, "turn_texts": 3, "items": 6}
    )
    assert await _left(database, tenants.ours) == ({used}, {used}, {used})


async def test_each_transaction_of_a_purge_is_audited_with_what_it_deleted(
    database: Database, tenants: TwoTenants, retention: RetentionService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await TenantService(database).change(TESTER, tenants.ours.tenant_id, turn_days=7)
    for _ in range(3):
        await _said(database, tenants.ours, 7.01)
    delete, batches = ErasureRepository.turns, 0

    async def breaking(self: ErasureRepository, condition: ColumnElement[bool]) -> Counter[str]:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise Unavailable("The database is gone.")
        return await delete(self, condition)

    monkeypatch.setattr(ErasureRepository, "turns", breaking)
    with pytest.raises(Unavailable):
        await retention.purge(TESTER)
    assert await _purges(database, tenants.ours) == [{"turns": 2, "turn_texts": 2, "items": 2}]
    await retention.purge(TESTER)
    # What was brought into the conversations belongs to no turn, and goes by itself.
    rest = [{"turns": 1, "turn_texts": 1, "items": 1}, {"items": 2}, {"items": 1}]
    assert (await _purges(database, tenants.ours))[1:] == rest
    assert await _purges(database, tenants.theirs) == []


async def test_that_a_recorded_answer_ends_after_its_day_is_not_audited(
    database: Database, tenants: TwoTenants, retention: RetentionService
) -> None:
    async with database.begin(tenants.ours.tenant_id) as session:
        session.add(an_idempotency_key(created_at=now() - KEPT - timedelta(seconds=1)))
    assert await retention.purge(TESTER) == {"idempotency_keys": 1}
    assert await _purges(database, tenants.ours) == []


async def _purges(database: Database, principal: Principal) -> list[dict[str, int] | None]:
    """What the audit log says of a tenant's purges, in their order."""
    events = await AuditService(database).page(principal.tenant_id, None, 100)
    return [event.after for event in reversed(events) if event.action == "tenant.purge"]


async def test_each_tenant_has_clocks_of_its_own(
    database: Database, tenants: TwoTenants, retention: RetentionService
) -> None:
    await TenantService(database).change(TESTER, tenants.ours.tenant_id, turn_days=1, conversation_days=1)
    await TenantService(database).change(TESTER, tenants.theirs.tenant_id, turn_days=30)
    await _said(database, tenants.ours, 10)
    kept = await _said(database, tenants.theirs, 10)
    assert (
        await retention.preview()
        == await retention.purge(TESTER)
        == {"conversations": 1, "turns": 1, "turn_texts": 1, "items": 2}
    )
    assert await _left(database, tenants.ours) == (set(), set(), set())
    assert await _left(database, tenants.theirs) == ({kept}, {kept}, {kept})


async def test_what_runs_is_not_purged(database: Database, tenants: TwoTenants, retention: RetentionService) -> None:
    await TenantService(database).change(TESTER, tenants.ours.tenant_id, turn_days=1, conversation_days=1)
    conversation_id = await _said(database, tenants.ours, 10)
    began = now() - 5 * _DAY
    running = a_turn(
        tenants.ours,
        id=new_id(began),
        created_at=began,
        conversation_id=conversation_id,
        status=TurnStatus.RUNNING,
    )
    await store(database, tenants.ours, running, a_text(running))
    assert await retention.preview() == await retention.purge(TESTER) != {}
    assert await _left(database, tenants.ours) == ({conversation_id}, {conversation_id}, set())


async def test_answers_that_repeat_what_is_purged_are_forgotten_with_it(
    database: Database, tenants: TwoTenants, retention: RetentionService
) -> None:
    await TenantService(database).change(TESTER, tenants.ours.tenant_id, turn_days=7)
    for brought in (True, False):
        at = now()
        old, young = new_id(at - 8 * _DAY), a_turn(tenants.ours, id=new_id(at - _DAY))
        conversation = a_conversation()
        young.conversation_id = conversation.id
        turn = a_turn(tenants.ours, id=old, created_at=at - 8 * _DAY, conversation_id=conversation.id)
        said = an_item(conversation, id=old) if brought else turn
        await store(database, tenants.ours, conversation, said, young, _recorded(young, f"repeats-{brought}"))
    unrelated = a_turn(tenants.ours, id=new_id(now() - _DAY))
    await store(database, tenants.ours, unrelated, _recorded(unrelated, "says something else"))
    expected = {"idempotency_keys": 2, "turns": 1, "items": 1}
    assert await retention.preview() == await retention.purge(TESTER) == expected
    async with database.begin(tenants.ours.tenant_id) as session:
        assert list(await session.scalars(select(IdempotencyKey.key))) == ["says something else"]


def _recorded(turn: Turn, key: str) -> IdempotencyKey:
    return an_idempotency_key(key, turn_id=turn.id, status=200, headers=[], body=b"")


async def test_replicas_that_purge_at_once_delete_every_row_once(database: Database, tenants: TwoTenants) -> None:
    await TenantService(database).change(TESTER, tenants.ours.tenant_id, conversation_days=1)
    for _ in range(10):
        await _said(database, tenants.ours, 10)
    replicas = [RetentionService(database, batch=3, interval=3600) for _ in range(3)]
    reports = await asyncio.gather(*(replica.purge(TESTER) for replica in replicas))
    assert sum(reports, Counter()) == {"conversations": 10, "turns": 10, "turn_texts": 10, "items": 20}
