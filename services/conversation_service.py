"""Conversations, as their tenant makes, reads, labels and adds to them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from app.common.errors import Conflict, InvalidRequest, NotFound
from database.clock import now
from database.identifier import new_id
from database.models import Conversation, Item
from database.repositories.conversation_repository import ConversationFilter, ConversationRepository
from database.repositories.item_repository import ItemRepository
from database.repositories.recorded_answers import RecordedAnswers
from database.repositories.turn_repository import TurnRepository
from database.session import Database
from services.answer_delta import written
from services.audit_service import Actor, record
from services.content_policy import check_kept
from services.erased_caller import refused_if_erased
from services.inference.message import ToolCall
from services.principal import Principal
from services.prompt_messages import UnmatchedCall, check_whole
from services.said_item import SaidItem, item_rows, said_item

_SCAN = 1000


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """Conversations in order. `next` continues after them; None says that nothing is left."""

    rows: list[Conversation]
    next: str | None


class ConversationService:
    """Each method is one transaction. Another tenant's id raises NotFound, as one that is not there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, principal: Principal, items: Sequence[SaidItem], labels: Mapping[str, str], user: str | None
    ) -> Conversation:
        """Make one, in which this has been said.

        Raises InvalidRequest where the tenant's policy keeps nothing, Unauthenticated if it was erased meanwhile.
        """
        check_kept(principal)
        at = now()
        async with (
            refused_if_erased(self._database, principal.tenant_id),
            self._database.begin(principal.tenant_id) as session,
        ):
            conversation = Conversation(
                id=new_id(at), user=user, labels=dict(labels), length=0, created_at=at, used_at=at
            )
            ConversationRepository(session).add(conversation)
            await session.flush()
            _append(session, conversation, [], items)
        return conversation

    async def get(self, principal: Principal, conversation_id: str) -> Conversation:
        """The one of that id."""
        async with self._database.begin(principal.tenant_id) as session:
            return existing(await ConversationRepository(session).get(conversation_id))

    async def page(self, principal: Principal, wanted: ConversationFilter, limit: int) -> ConversationPage:
        """At most `limit` of the tenant's. A search by text may return fewer and still have a next page."""
        async with self._database.begin(principal.tenant_id) as session:
            conversations = ConversationRepository(session)
            if wanted.text is None:
                rows, scanned = await conversations.page(wanted, limit + 1), None
            else:
                rows, scanned = await conversations.search(wanted, limit + 1, _SCAN)
        if len(rows) > limit:
            return ConversationPage(rows[:limit], rows[limit - 1].id)
        return ConversationPage(rows, scanned)

    async def label(self, principal: Principal, conversation_id: str, labels: Mapping[str, str]) -> Conversation:
        """Give it these labels in place of those that it has."""
        check_kept(principal)
        async with self._database.begin(principal.tenant_id) as session:
            conversation = existing(await ConversationRepository(session).lock(conversation_id))
            conversation.labels = dict(labels)
        return conversation

    async def items(
        self, principal: Principal, conversation_id: str, after: str | None, limit: int, *, newest_first: bool
    ) -> list[Item]:
        """The next `limit` of its items. Raises InvalidRequest for an `after` that is none of them."""
        async with self._database.begin(principal.tenant_id) as session:
            existing(await ConversationRepository(session).get(conversation_id))
            items = ItemRepository(session, conversation_id)
            seen = None if after is None else await items.get(after)
            if after is not None and seen is None:
                raise InvalidRequest("The conversation has no such item.", param="after", code="invalid_value")
            return await items.page(seen, limit, newest_first=newest_first)

    async def item(self, principal: Principal, conversation_id: str, item_id: str) -> Item:
        """One of its items."""
        async with self._database.begin(principal.tenant_id) as session:
            existing(await ConversationRepository(session).get(conversation_id))
            return _existing_item(await ItemRepository(session, conversation_id).get(item_id))

    async def add(self, principal: Principal, conversation_id: str, items: Sequence[SaidItem]) -> list[Item]:
        """Say this in it, after all that was said.

        Raises Conflict while a turn of it runs, InvalidRequest for outputs of calls that do not wait for them, or
        where the tenant's policy keeps nothing.
        """
        check_kept(principal)
        async with self._database.begin(principal.tenant_id) as session:
            conversation = await _unlocked(session, conversation_id)
            open_calls = await ItemRepository(session, conversation_id).since_last_message()
            conversation.used_at = now()
            return _append(session, conversation, open_calls, items)

    async def delete_item(self, by: Actor, tenant_id: str, conversation_id: str, item_id: str) -> Conversation:
        """Erase one of its items, also from the log and recorded answers. Raises Conflict while a turn of it runs."""
        async with self._database.begin(tenant_id) as session:
            conversation = await _unlocked(session, conversation_id)
            items = ItemRepository(session, conversation_id)
            item = _existing_item(await items.get(item_id))
            forgotten = await RecordedAnswers(session).forget([conversation_id], [])
            await items.delete(item)
            turns = TurnRepository(session)
            deleted = +Counter(items=1, idempotency_keys=forgotten)
            record(session, by, "item.erased", tenant_id=tenant_id, target_id=item_id, after=dict(deleted))
            if item.turn_id is not None and (text := await turns.text(item.turn_id)) is not None:
                if item.answer is not None:
                    text.response = _written(await items.answer(item.turn_id))
                elif item.text == text.prompt:
                    text.prompt = ""
        await self._database.empty_log()
        return conversation


def existing(conversation: Conversation | None) -> Conversation:
    """The same. Raises NotFound if there is none."""
    if conversation is None:
        raise NotFound("There is no such conversation.", param="conversation_id", code="conversation_not_found")
    return conversation


def _existing_item(item: Item | None) -> Item:
    if item is None:
        raise NotFound("There is no such item.", param="item_id", code="item_not_found")
    return item


async def _unlocked(session: AsyncSession, conversation_id: str) -> Conversation:
    conversation = existing(await ConversationRepository(session).lock(conversation_id))
    if await TurnRepository(session).runs_in(conversation_id):
        raise Conflict("A turn of this conversation is running; wait for its end.", retry_after=1)
    return conversation


def _append(
    session: AsyncSession, conversation: Conversation, open_calls: Sequence[Item], items: Sequence[SaidItem]
) -> list[Item]:
    try:
        check_whole([*map(said_item, open_calls), *items])
    except UnmatchedCall as error:
        raise InvalidRequest(str(error), param="items") from error
    owner = {"conversation_id": conversation.id, "turn_id": None, "created_at": now()}
    rows = [Item(**row) for row in item_rows(items, conversation.length, **owner)]
    ItemRepository(session, conversation.id).add(rows)
    conversation.length += len(rows)
    return rows


def _written(items: Sequence[Item]) -> str:
    text = "".join(item.text for item in items if item.type == "message")
    return written(text, (ToolCall(item.name or "", item.text) for item in items if item.type == "function_call"))
