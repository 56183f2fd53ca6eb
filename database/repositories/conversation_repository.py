"""Queries on conversations; how a turn reads and continues one is in `turn_statements`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Select, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.identifier import first_id_at
from database.labelled import labelled
from database.models import Conversation, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationFilter:
    """What to list; None does not filter.

    Attributes:
        labels: all of which a conversation must have.
        since, until: the time it was made, `since` included, `until` not.
        text: part of something said in it, without regard to case.
        after: the id of the last conversation seen.
        newest_first: the order; else the oldest come first.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    after: str | None = None
    newest_first: bool = True


class ConversationRepository:
    """Conversations of one tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, conversation: Conversation) -> None:
        """Insert at the next flush."""
        self._session.add(conversation)

    async def get(self, conversation_id: str) -> Conversation | None:
        """The conversation of that id."""
        return await self._session.scalar(select(Conversation).where(Conversation.id == conversation_id))

    async def lock(self, conversation_id: str) -> Conversation | None:
        """The same; no turn of it begins, and nobody else changes it, until the transaction ends."""
        statement = select(Conversation).where(Conversation.id == conversation_id).with_for_update()
        return await self._session.scalar(statement)

    async def page(self, wanted: ConversationFilter, limit: int) -> list[Conversation]:
        """The next `limit` conversations that match all filters but `text`."""
        return list(await self._session.scalars(_in_order(wanted, _matching(wanted)).limit(limit)))

    async def search(self, wanted: ConversationFilter, limit: int, scan: int) -> tuple[list[Conversation], str | None]:
        """Like `page`, with `text`: among the next `scan` conversations that match the other filters.

        Returns:
            At most `limit` rows, and the last id that was scanned if there may be more beyond it, else None.
        """
        ids = list(
            await self._session.scalars(
                _in_order(wanted, _matching(wanted)).limit(scan).with_only_columns(Conversation.id)
            )
        )
        said = select(Item.id).where(
            Item.conversation_id == Conversation.id, Item.text.icontains(wanted.text or "", autoescape=True)
        )
        found = select(Conversation).where(Conversation.id.in_(ids), exists(said))
        rows = list(await self._session.scalars(_in_order(wanted, found).limit(limit)))
        return rows, ids[-1] if len(ids) == scan else None


def _matching(wanted: ConversationFilter) -> Select[Conversation]:
    # Ids begin with the time they were made, so that bounds in time are bounds of one index scan.
    statement = select(Conversation)
    if wanted.user is not None:
        statement = statement.where(Conversation.user == wanted.user)
    if wanted.labels:
        statement = statement.where(labelled(Conversation.labels, wanted.labels))
    if wanted.since is not None:
        statement = statement.where(Conversation.id >= first_id_at(wanted.since))
    if wanted.until is not None:
        statement = statement.where(Conversation.id < first_id_at(wanted.until))
    if wanted.after is not None:
        older, newer = Conversation.id < wanted.after, Conversation.id > wanted.after
        statement = statement.where(older if wanted.newest_first else newer)
    return statement


def _in_order(wanted: ConversationFilter, statement: Select[Conversation]) -> Select[Conversation]:
    return statement.order_by(Conversation.id.desc() if wanted.newest_first else Conversation.id)
