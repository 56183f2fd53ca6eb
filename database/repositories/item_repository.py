"""Queries on the items of a conversation; how a turn reads and writes them is in `turn_statements`."""

from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import Item


class ItemRepository:
    """Items of one conversation."""

    def __init__(self, session: AsyncSession, conversation_id: str) -> None:
        self._session = session
        self._conversation_id = conversation_id

    async def page(self, after: Item | None, limit: int, *, newest_first: bool) -> list[Item]:
        """The next `limit` items, after this one."""
        order = Item.position.desc() if newest_first else Item.position
        statement = select(Item).where(Item.conversation_id == self._conversation_id).order_by(order).limit(limit)
        if after is not None:
            position = after.position
            statement = statement.where(Item.position < position if newest_first else Item.position > position)
        return list(await self._session.scalars(statement))

    async def get(self, item_id: str) -> Item | None:
        """The item of that id."""
        statement = select(Item).where(Item.conversation_id == self._conversation_id, Item.id == item_id)
        return await self._session.scalar(statement)

    async def since_last_message(self) -> list[Item]:
        """The calls and outputs at the end, in order."""
        mine = Item.conversation_id == self._conversation_id
        last = select(func.max(Item.position)).where(mine, Item.type == "message").scalar_subquery()
        statement = select(Item).where(mine, Item.position > func.coalesce(last, -1)).order_by(Item.position)
        return list(await self._session.scalars(statement))

    async def answer(self, turn_id: str) -> list[Item]:
        """What is left of a turn's answer, in order."""
        statement = select(Item).where(Item.turn_id == turn_id, Item.answer.is_not(None)).order_by(Item.position)
        return list(await self._session.scalars(statement))

    def add(self, items: Iterable[Item]) -> None:
        """Insert at the next flush."""
        self._session.add_all(items)

    async def delete(self, item: Item) -> None:
        """Erase it."""
        await self._session.delete(item)
        await self._session.flush()
