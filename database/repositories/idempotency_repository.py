"""Queries on idempotency keys."""

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import IdempotencyKey


class IdempotencyRepository:
    """The keys of one tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self, key: str) -> IdempotencyKey | None:
        """The request under this key, changed by nobody else until the transaction ends."""
        statement = select(IdempotencyKey).where(IdempotencyKey.key == key).with_for_update()
        return await self._session.scalar(statement)

    async def add(self, row: IdempotencyKey) -> None:
        """Insert at once. Raises IntegrityError if the key is there already."""
        self._session.add(row)
        await self._session.flush()

    async def attempted(self, key: str, attempt: str) -> IdempotencyKey | None:
        """The request under this key, if nobody else has begun to answer it."""
        statement = select(IdempotencyKey).where(IdempotencyKey.key == key, IdempotencyKey.attempt == attempt)
        return await self._session.scalar(statement)

    async def forget(self, key: str, attempt: str) -> None:
        """Let the key be as if it had never been used, unless somebody else has begun to answer."""
        mine = (IdempotencyKey.key == key, IdempotencyKey.attempt == attempt)
        await self._session.execute(delete(IdempotencyKey).where(*mine))
