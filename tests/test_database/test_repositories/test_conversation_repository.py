"""Conversations as their tenant reads and erases them."""

from database.driver import Rows
from database.models import Conversation
from database.repositories.conversation_repository import ConversationRepository
from database.repositories.turn_statements import READ_CONVERSATION
from database.session import Database
from services.principal import Principal
from tests.conftest import TwoTenants
from tests.rows import a_conversation, an_item, store


async def _read(database: Database, principal: Principal, conversation: Conversation) -> list[tuple[object, ...]]:
    rows: Rows
    async with database.begin_prepared(principal.tenant_id) as transaction:
        (rows,) = await transaction.run({"conversation_id": conversation.id}, READ_CONVERSATION)
    return [tuple(row) for row in rows]


async def test_what_was_said_comes_in_order_with_gaps(database: Database, tenants: TwoTenants) -> None:
    conversation, other = a_conversation(length=8), a_conversation()
    items = [an_item(conversation, position=position, text=f"at {position}") for position in (7, 0, 3)]
    await store(database, tenants.ours, conversation, other, *items, an_item(other))
    said = [(8, "message", "user", f"at {position}", None, None) for position in (0, 3, 7)]
    assert await _read(database, tenants.ours, conversation) == said


async def test_a_conversation_in_which_nothing_was_said_is_there(database: Database, tenants: TwoTenants) -> None:
    conversation = a_conversation()
    await store(database, tenants.ours, conversation)
    assert await _read(database, tenants.ours, conversation) == [(0, None, None, None, None, None)]


async def test_another_tenants_conversation_is_as_absent_as_none(database: Database, tenants: TwoTenants) -> None:
    conversation = a_conversation()
    await store(database, tenants.theirs, conversation, an_item(conversation))
    assert await _read(database, tenants.ours, conversation) == []
    async with database.begin(tenants.ours.tenant_id) as session:
        conversations = ConversationRepository(session)
        assert not await conversations.lock(conversation.id)
