"""What erasures leave in the audit log: with each transaction what it deleted, at the end the report, never a name."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from app.common.errors import InvalidRequest
from database.models import AuditEvent
from database.session import Database
from services.audit_service import AuditService
from services.erasure_service import ErasureService
from services.principal import Principal
from services.tenant_service import TenantService
from tests.conftest import TwoTenants
from tests.rows import TESTER, a_conversation, a_text, a_turn, store
from tests.whole_database import columns_holding, row_counts

_USER = "ann@example.com"
_Erase: TypeAlias = Callable[[ErasureService, str, str], Awaitable[Counter[str]]]


async def _conversation(erasure: ErasureService, tenant_id: str, conversation_id: str) -> Counter[str]:
    return await erasure.conversation(TESTER, tenant_id, conversation_id)


async def _user(erasure: ErasureService, tenant_id: str, _conversation_id: str) -> Counter[str]:
    return await erasure.user(TESTER, tenant_id, _USER)


async def _tenant(erasure: ErasureService, tenant_id: str, _conversation_id: str) -> Counter[str]:
    return await erasure.tenant(TESTER, tenant_id)


_KINDS = pytest.mark.parametrize(
    ("kind", "erase"), [("conversation", _conversation), ("user", _user), ("tenant", _tenant)]
)


@pytest.fixture
async def conversation_id(database: Database, tenants: TwoTenants) -> str:
    """Of five turns of a user, of a tenant that is suspended."""
    conversation = a_conversation(user=_USER)
    turns = [a_turn(tenants.ours, conversation_id=conversation.id, user=_USER) for _ in range(5)]
    await store(database, tenants.ours, conversation, *turns, *(a_text(turn) for turn in turns))
    await TenantService(database).suspend(TESTER, tenants.ours.tenant_id)
    return conversation.id


async def _events(database: Database, principal: Principal) -> list[AuditEvent]:
    """Those of erasures, in their order."""
    events = await AuditService(database).page(principal.tenant_id, None, 100)
    return [event for event in reversed(events) if ".erase" in event.action]


def _told(events: list[AuditEvent]) -> Counter[str]:
    return sum((Counter(event.after) for event in events), Counter())


@_KINDS
async def test_each_transaction_of_an_erasure_is_audited_and_its_report_at_the_end_without_names(
    database: Database, tenants: TwoTenants, conversation_id: str, kind: str, erase: _Erase
) -> None:
    report = await erase(ErasureService(database, 2), tenants.ours.tenant_id, conversation_id)
    *before, last = await _events(database, tenants.ours)
    assert len(before) > 1
    assert ({event.action for event in before}, last.action) == ({f"{kind}.erase"}, f"{kind}.erased")
    assert last.after == report
    # What the last transaction deleted is in the report alone.
    assert _told(before) <= report
    assert _told(before)["turns"] >= 4
    # Administrators named the tenant; its conversations and users, its callers did.
    names = [event.before["name"] for event in before if event.before is not None]
    assert names == (["ours"] if kind == "tenant" else [])
    assert await columns_holding(database, _USER) == set()


async def test_an_erasure_of_one_transaction_is_audited_as_begun_and_with_its_report(
    database: Database, tenants: TwoTenants, conversation_id: str
) -> None:
    report = await _conversation(ErasureService(database, 500), tenants.ours.tenant_id, conversation_id)
    events = [(event.action, event.after) for event in await _events(database, tenants.ours)]
    assert events == [("conversation.erase", None), ("conversation.erased", report)]


@_KINDS
async def test_what_an_erasure_deleted_before_it_broke_off_is_audited_and_the_rest_goes_when_it_is_begun_again(
    database: Database,
    tenants: TwoTenants,
    conversation_id: str,
    kind: str,
    erase: _Erase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transaction, transactions = ErasureService._transaction, 0

    async def breaking(*arguments: Any) -> Any:
        nonlocal transactions
        transactions += 1
        if transactions == 3:
            raise InvalidRequest("It is not suspended any more.")
        return await transaction(*arguments)

    monkeypatch.setattr(ErasureService, "_transaction", breaking)
    whole = await row_counts(database)
    with pytest.raises(InvalidRequest):
        await erase(ErasureService(database, 2), tenants.ours.tenant_id, conversation_id)
    events = await _events(database, tenants.ours)
    assert [event.action for event in events] == [f"{kind}.erase"] * 2
    gone = whole - await row_counts(database)
    assert _told(events) == gone
    assert gone.total() >= 4
    report = await erase(ErasureService(database, 2), tenants.ours.tenant_id, conversation_id)
    assert await row_counts(database) == whole - gone - report


@_KINDS
async def test_an_eraser_that_another_overtook_has_erased_and_reports_what_itself_deleted(
    database: Database,
    tenants: TwoTenants,
    conversation_id: str,
    kind: str,
    erase: _Erase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transaction, others = ErasureService._transaction, list[Counter[str]]()

    async def then_overtaken(*arguments: Any) -> Any:
        ended = await transaction(*arguments)
        monkeypatch.setattr(ErasureService, "_transaction", transaction)
        others.append(await erase(ErasureService(database, 500), tenants.ours.tenant_id, conversation_id))
        return ended

    whole = await row_counts(database)
    monkeypatch.setattr(ErasureService, "_transaction", then_overtaken)
    report = await erase(ErasureService(database, 2), tenants.ours.tenant_id, conversation_id)
    (other,) = others
    assert report.total() > 0
    assert report + other == whole - await row_counts(database)
    events = await _events(database, tenants.ours)
    assert [event.after for event in events if event.action == f"{kind}.erased"] == [other, report]
