"""Erasing: nothing is left that holds the text, nothing else is touched, and the report is true."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from app.common.errors import Conflict, InvalidRequest, NotFound
from database.identifier import new_id
from database.models import TurnStatus
from database.repositories.history_repository import HistoryFilter
from database.session import Database
from services.erasure_service import ErasureService
from services.history_service import HistoryService
from services.principal import Principal
from services.tenant_service import TenantService
from services.turn_log import TurnLog
from tests.conftest import TwoTenants
from tests.rows import TESTER, a_conversation, a_lease, a_text, a_turn, an_item, store
from tests.turns import a_live_turn, an_opening
from tests.whole_database import columns_holding, row_counts

_PROMPT, _RESPONSE, _USER = "an unmistakable question", "an unmistakable answer", "ann@example.com"


@pytest.fixture
def erasure(database: Database) -> ErasureService:
    """In batches that are smaller than what is erased."""
    return ErasureService(database, 2)


async def _said(
    database: Database, principal: Principal, turns: int, *, user: str | None = None, of_turns: str | None = None
) -> str:
    """A conversation with a history that was brought along, and this many turns; its id."""
    conversation = a_conversation(user=user)
    brought = [an_item(conversation, position=at, text=_PROMPT) for at in (0, 1)]
    await store(database, principal, conversation, *brought)
    for number in range(turns):
        turn = a_turn(principal, conversation_id=conversation.id, user=of_turns or user)
        items = [
            an_item(conversation, turn_id=turn.id, position=2 + 2 * number + at, text=said)
            for at, said in enumerate((_PROMPT, _RESPONSE))
        ]
        await store(database, principal, turn, a_text(turn, _PROMPT, _RESPONSE), *items)
    return conversation.id


async def test_an_erased_conversation_is_gone_with_all_that_was_said_in_it(
    database: Database, tenants: TwoTenants, erasure: ErasureService
) -> None:
    kept = await row_counts(database)
    conversation_id = await _said(database, tenants.ours, 3, user=_USER)
    report = await erasure.conversation(TESTER, tenants.ours.tenant_id, conversation_id)
    assert report == {"conversations": 1, "turns": 3, "turn_texts": 3, "items": 8}
    assert await columns_holding(database, _PROMPT, _RESPONSE, _USER) == set()
    assert await row_counts(database) == kept
    with pytest.raises(NotFound):
        await erasure.conversation(TESTER, tenants.ours.tenant_id, conversation_id)


@pytest.mark.parametrize("batch", [1, 3, 8, 500])
async def test_a_report_does_not_depend_on_the_size_of_the_batches(
    database: Database, tenants: TwoTenants, batch: int
) -> None:
    conversation_id = await _said(database, tenants.ours, 3)
    report = await ErasureService(database, batch).conversation(TESTER, tenants.ours.tenant_id, conversation_id)
    assert report == {"conversations": 1, "turns": 3, "turn_texts": 3, "items": 8}


async def test_other_conversations_and_other_tenants_keep_everything(
    database: Database, tenants: TwoTenants, erasure: ErasureService
) -> None:
    gone = await _said(database, tenants.ours, 2, user=_USER)
    before = await row_counts(database)
    await _said(database, tenants.ours, 2)
    await _said(database, tenants.theirs, 2, user=_USER)
    report = await erasure.conversation(TESTER, tenants.ours.tenant_id, gone)
    after = await row_counts(database)
    for table in report:
        assert after[table] == 2 * before[table], table


async def test_an_erased_user_is_gone_from_own_conversations_and_from_those_of_others(
    database: Database, tenants: TwoTenants, erasure: ErasureService
) -> None:
    for _ in range(3):
        await _said(database, tenants.ours, 2, user=_USER)
    shared = await _said(database, tenants.ours, 2, user="bob", of_turns=_USER)
    alone = a_turn(tenants.ours, user=_USER)
    await store(database, tenants.ours, alone, a_text(alone, _PROMPT, _RESPONSE))
    await _said(database, tenants.ours, 1, user="bob")
    report = await erasure.user(TESTER, tenants.ours.tenant_id, _USER)
    assert report == {"conversations": 3, "turns": 9, "turn_texts": 9, "items": 22}
    assert await columns_holding(database, _USER) == set()
    history = HistoryService(database)
    assert (await history.page(tenants.ours, HistoryFilter(conversation_id=shared), 10)).rows == []
    assert len((await history.page(tenants.ours, HistoryFilter(user="bob"), 10)).rows) == 1
    with pytest.raises(NotFound):
        await erasure.user(TESTER, tenants.ours.tenant_id, _USER)


async def test_another_tenants_user_of_the_same_name_keeps_everything(
    database: Database, tenants: TwoTenants, erasure: ErasureService
) -> None:
    await _said(database, tenants.theirs, 1, user=_USER)
    before = await row_counts(database)
    with pytest.raises(NotFound):
        await erasure.user(TESTER, tenants.ours.tenant_id, _USER)
    assert await row_counts(database) == before


async def test_an_erased_tenant_leaves_nothing_but_its_audit_log(
    database: Database, tenants: TwoTenants, erasure: ErasureService
) -> None:
    for owner in (tenants.ours, tenants.theirs):
        conversation_id = await _said(database, owner, 3, user=_USER)
        async with database.begin_global() as session:
            session.add(a_lease(owner, conversation_id))
    before = await row_counts(database)
    with pytest.raises(InvalidRequest, match="Suspend"):
        await erasure.tenant(TESTER, tenants.ours.tenant_id)
    assert await row_counts(database) == before
    await TenantService(database).suspend(TESTER, tenants.ours.tenant_id)
    report = await erasure.tenant(TESTER, tenants.ours.tenant_id)
    assert report == {name: rows // 2 for name, rows in before.items()}
    assert await row_counts(database) == report
    columns = await columns_holding(database, tenants.ours.tenant_id, tenants.ours.key_id)
    assert {column.partition(".")[0] for column in columns} == {"audit_events"}
    with pytest.raises(NotFound):
        await erasure.tenant(TESTER, tenants.ours.tenant_id)


async def test_what_runs_is_not_erased(database: Database, tenants: TwoTenants, erasure: ErasureService) -> None:
    conversation_id = await _said(database, tenants.ours, 2, user=_USER)
    running = a_turn(tenants.ours, conversation_id=conversation_id, user=_USER, status=TurnStatus.RUNNING)
    await store(database, tenants.ours, running, a_text(running))
    before = await row_counts(database)
    tenant_id = tenants.ours.tenant_id
    await TenantService(database).suspend(TESTER, tenant_id)
    for attempt in (
        erasure.conversation(TESTER, tenant_id, conversation_id),
        erasure.user(TESTER, tenant_id, _USER),
        erasure.tenant(TESTER, tenant_id),
    ):
        with pytest.raises(Conflict) as caught:
            await attempt
        assert caught.value.retry_after == 1
    assert await row_counts(database) == before


async def test_what_runs_is_not_counted_but_what_is_not_there_is_not_found(
    database: Database, tenants: TwoTenants, erasure: ErasureService
) -> None:
    tenant_id, theirs = tenants.ours.tenant_id, await _said(database, tenants.theirs, 1, user=_USER)
    conversation_id = await _said(database, tenants.ours, 0, user="bob")
    running = a_turn(tenants.ours, conversation_id=conversation_id, user="carol", status=TurnStatus.RUNNING)
    await store(database, tenants.ours, running)
    assert await erasure.preview(tenant_id, user="carol") == {}
    assert await erasure.preview(tenant_id, user="bob") == {}
    assert await erasure.preview(tenant_id, conversation_id=conversation_id) == {}
    for missing in ({"user": _USER}, {"user": "nobody"}, {"conversation_id": theirs}, {"conversation_id": new_id()}):
        with pytest.raises(NotFound) as counted:
            await erasure.preview(tenant_id, **missing)
        with pytest.raises(NotFound) as erased:
            await (erasure.user if "user" in missing else erasure.conversation)(TESTER, tenant_id, *missing.values())
        assert vars(counted.value) == vars(erased.value)


async def test_the_administrators_are_neither_erased_nor_counted(
    database: Database, tenants: TwoTenants, erasure: ErasureService
) -> None:
    administrators = (await TenantService(database).administrators(TESTER)).id
    for attempt in (erasure.preview(administrators), erasure.tenant(TESTER, administrators)):
        with pytest.raises(InvalidRequest, match="revoke their keys"):
            await attempt
    assert (await erasure.preview(tenants.ours.tenant_id))["tenants"] == 1


async def test_a_turn_that_begins_while_its_conversation_is_erased_is_refused_or_prevents_it(
    database: Database, tenants: TwoTenants
) -> None:
    log, erasure = TurnLog(database, owner=new_id(), lease=timedelta(seconds=30)), ErasureService(database, 500)
    for _ in range(10):
        conversation_id = await _said(database, tenants.ours, 1)
        turn = a_live_turn(conversation_id)
        opened, erased = await asyncio.gather(
            log.open(turn, an_opening(tenants.ours, seen_length=0)),
            erasure.conversation(TESTER, tenants.ours.tenant_id, conversation_id),
            return_exceptions=True,
        )
        assert {type(opened), type(erased)} in ({Conflict, Counter}, {type(None), Conflict})
        running = HistoryFilter(conversation_id=conversation_id, status=TurnStatus.RUNNING)
        found = await HistoryService(database).page(tenants.ours, running, 10)
        assert len(found.rows) == (opened is None)
