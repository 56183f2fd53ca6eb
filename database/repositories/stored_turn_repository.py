"""Queries on stored turns: those that are there by their id, with all that was said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.labelled import labelled
from database.models import Item, Turn, TurnStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTurnFilter:
    """What to list; None does not filter.

    Attributes:
        labels: all of which a turn must have.
        after: the id of the last turn seen.
        newest_first: the order; else the oldest come first.
    """

    model: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    after: str | None = None
    newest_first: bool = False


class StoredTurnRepository:
    """Stored and completed turns of one tenant, made by one endpoint."""

    def __init__(self, session: AsyncSession, endpoint: str) -> None:
        self._session = session
        self._endpoint = endpoint

    async def page(self, wanted: StoredTurnFilter, limit: int) -> list[Turn]:
        """The next `limit` turns."""
        statement = self._turns().order_by(Turn.id.desc() if wanted.newest_first else Turn.id).limit(limit)
        if wanted.model is not None:
            statement = statement.where(Turn.model == wanted.model)
        if wanted.labels:
            statement = statement.where(labelled(Turn.labels, wanted.labels))
        if wanted.after is not None:
            statement = statement.where(Turn.id < wanted.after if wanted.newest_first else Turn.id > wanted.after)
        return list(await self._session.scalars(statement))

    async def get(self, turn_id: str) -> Turn | None:
        """The turn of that id."""
        return await self._session.scalar(self._turns().where(Turn.id == turn_id))

    async def items(self, turn_ids: Sequence[str], *, told: bool) -> list[Item]:
        """What these turns were told, or what they answered; of each in order."""
        belongs = Item.answer.is_(None) if told else Item.answer.is_not(None)
        statement = select(Item).where(Item.turn_id.in_(turn_ids), belongs).order_by(Item.turn_id, Item.position)
        return list(await self._session.scalars(statement))

    def _turns(self) -> Select[Turn]:
        return select(Turn).where(
            Turn.stored, Turn.endpoint == self._endpoint, Turn.status == TurnStatus.COMPLETED.value
        )
