"""What is taken out of a tenant: conversations with all that belongs to them, and turns, in the order of their ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import ApiKey, Conversation, Item, Turn, TurnStatus, TurnText
from database.repositories.history_repository import HistoryFilter, conditions

# What is taken out, children last; of other tables with content nothing is, since they are counters or pass away.
EXPORTED: tuple[type[Any], ...] = (Conversation, Turn, TurnText, Item)
LEFT_OUT = {
    "limits": "a decision about this service",
    "usage": "sums of what was used here",
    "turn_chunks": "text of turns that run",
    "idempotency_keys": "answers to retries, for a day",
}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A conversation, or a turn in none, with all rows that belong to it."""

    conversation: Conversation | None
    turns: list[Turn]
    texts: list[TurnText]
    items: list[Item]
    key_names: Mapping[str, str]

    @property
    def id(self) -> str:
        """Of the conversation, or of the one turn."""
        return self.turns[0].id if self.conversation is None else self.conversation.id


@dataclass(frozen=True, slots=True)
class LoggedTurn:
    """A turn, with what was asked and answered if that was kept."""

    turn: Turn
    text: TurnText | None

    @property
    def id(self) -> str:
        """The turn's."""
        return self.turn.id


class ExportRepository:
    """Reads one tenant's content, oldest first."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def conversations(self, wanted: HistoryFilter, after: str | None, limit: int) -> list[Bundle]:
        """The next conversations in which there is a turn that matches; without any filter, all of them."""
        statement = select(Conversation).order_by(Conversation.id).limit(limit)
        if after is not None:
            statement = statement.where(Conversation.id > after)
        if matching := conditions(wanted):
            turn = select(Turn.id).where(Turn.conversation_id == Conversation.id, *matching)
            statement = statement.where(exists(turn))
        found = list(await self._session.scalars(statement))
        ids = [conversation.id for conversation in found]
        rows = await self._belonging(Turn.conversation_id.in_(ids), Item.conversation_id.in_(ids))
        turn_owner = {turn.id: turn.conversation_id for turn in rows[0]}
        names = await self._key_names(rows[0])
        return [
            Bundle(
                conversation,
                [turn for turn in rows[0] if turn.conversation_id == conversation.id],
                [text for text in rows[1] if turn_owner[text.turn_id] == conversation.id],
                [item for item in rows[2] if _owner(item, turn_owner) == conversation.id],
                names,
            )
            for conversation in found
        ]

    async def turns(self, wanted: HistoryFilter, after: str | None, limit: int) -> list[Bundle]:
        """The next turns that match and are in no conversation."""
        ended = Turn.status != TurnStatus.RUNNING
        statement = select(Turn.id).where(Turn.conversation_id.is_(None), ended, *conditions(wanted))
        ids = await self._next(statement, after, limit)
        turns, texts, items = await self._belonging(Turn.id.in_(ids), Item.turn_id.in_(ids))
        names = await self._key_names(turns)
        return [
            Bundle(
                None,
                [turn],
                [text for text in texts if text.turn_id == turn.id],
                [item for item in items if item.turn_id == turn.id],
                names,
            )
            for turn in turns
        ]

    async def log(self, wanted: HistoryFilter, after: str | None, limit: int) -> list[LoggedTurn]:
        """The next turns that match, with what was asked and answered."""
        ids = await self._next(select(Turn.id).where(*conditions(wanted)), after, limit)
        statement = select(Turn, TurnText).outerjoin(TurnText, TurnText.turn_id == Turn.id)
        rows = await self._session.execute(statement.where(Turn.id.in_(ids)).order_by(Turn.id))
        return [LoggedTurn(turn, text) for turn, text in rows]

    async def _key_names(self, turns: Sequence[Turn]) -> dict[str, str]:
        ids = {turn.key_id for turn in turns}
        rows = await self._session.execute(select(ApiKey.id, ApiKey.name).where(ApiKey.id.in_(ids)))
        return {row.id: row.name for row in rows}

    async def _next(self, statement: Any, after: str | None, limit: int) -> list[str]:
        if after is not None:
            statement = statement.where(Turn.id > after)
        return list(await self._session.scalars(statement.order_by(Turn.id).limit(limit)))

    async def _belonging(
        self, turns: ColumnElement[bool], items: ColumnElement[bool]
    ) -> tuple[list[Turn], list[TurnText], list[Item]]:
        # What runs is not history yet.
        ended = turns & (Turn.status != TurnStatus.RUNNING)
        ids = select(Turn.id).where(ended)
        found = await self._session.scalars(select(Turn).where(ended).order_by(Turn.id))
        texts = await self._session.scalars(
            select(TurnText).where(TurnText.turn_id.in_(ids)).order_by(TurnText.turn_id)
        )
        said = await self._session.scalars(
            select(Item).where(or_(items, Item.turn_id.in_(ids))).order_by(Item.position, Item.id)
        )
        return list(found), list(texts), list(said)


def _owner(item: Item, turn_owner: dict[str, str | None]) -> str | None:
    return item.conversation_id or turn_owner.get(item.turn_id or "")
