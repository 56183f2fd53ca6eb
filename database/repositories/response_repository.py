"""Queries on stored responses; how a turn goes on from one is in `response_statements`."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import Item, Turn


class ResponseRepository:
    """Stored responses of one tenant, by the ids of their turns."""

    def __init__(self, session: AsyncSession, endpoint: str) -> None:
        """`endpoint`: the route that makes them."""
        self._session = session
        self._endpoint = endpoint

    async def find(self, turn_id: str) -> Turn | None:
        """The turn of that id, if it is a stored response."""
        statement = select(Turn).where(Turn.id == turn_id, Turn.stored, Turn.endpoint == self._endpoint)
        return await self._session.scalar(statement)

    async def output(self, turn_id: str) -> Sequence[Item]:
        """What the model said, in order."""
        statement = select(Item).where(Item.turn_id == turn_id, Item.answer.is_not(None)).order_by(Item.position)
        return (await self._session.scalars(statement)).all()

    async def told(self, turn_id: str, *, after: str | None, limit: int, newest_first: bool) -> Sequence[Item]:
        """What the model was told in this turn, after the item of that id; nothing after one that is not there."""
        statement = select(Item).where(Item.turn_id == turn_id, Item.answer.is_(None))
        if after is not None:
            begun = select(Item.position).where(Item.turn_id == turn_id, Item.id == after).scalar_subquery()
            statement = statement.where(Item.position < begun if newest_first else Item.position > begun)
        order = Item.position.desc() if newest_first else Item.position
        return (await self._session.scalars(statement.order_by(order).limit(limit))).all()
