"""Queries on turns; what a turn itself writes is in `turn_statements`."""

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import Turn, TurnStatus, TurnText


class TurnRepository:
    """Turns of one tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, turn_id: str) -> Turn | None:
        """The turn of that id."""
        return await self._session.scalar(select(Turn).where(Turn.id == turn_id))

    async def running(self, turn_id: str) -> Turn | None:
        """The turn of that id, if it runs."""
        return await self._session.scalar(select(Turn).where(Turn.id == turn_id, Turn.status == TurnStatus.RUNNING))

    async def runs_in(self, conversation_id: str) -> bool:
        """Whether a turn of this conversation runs."""
        running = select(Turn.id).where(Turn.conversation_id == conversation_id, Turn.status == TurnStatus.RUNNING)
        return bool(await self._session.scalar(select(exists(running))))

    async def text(self, turn_id: str) -> TurnText | None:
        """What the log has of it."""
        return await self._session.scalar(select(TurnText).where(TurnText.turn_id == turn_id))

    async def with_response(self, turn_id: str) -> tuple[Turn, str] | None:
        """The turn of that id and what it answered, so far as that is stored; None if only its numbers are kept."""
        statement = (
            select(Turn, TurnText.response).join(TurnText, TurnText.turn_id == Turn.id).where(Turn.id == turn_id)
        )
        found = (await self._session.execute(statement)).first()
        return None if found is None else (found[0], found[1])
