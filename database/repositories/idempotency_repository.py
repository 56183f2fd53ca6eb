"""Queries on idempotency keys; how one is claimed is in `idempotency_statements`."""

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import IdempotencyKey


class IdempotencyRepository:
    """The keys of one tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def attempted(self, key: str, attempt: str) -> IdempotencyKey | None:
        """The request under this key, if nobody else has begun to answer it."""
        statement = select(IdempotencyKey).where(IdempotencyKey.key == key, IdempotencyKey.attempt == attempt)
        return await self._session.scalar(statement)

    async def forget(self, key: str, attempt: str) -> None:
        """Let the key be as if it had never been used, unless somebody else has begun to answer."""
        mine = (IdempotencyKey.key == key, IdempotencyKey.attempt == attempt)
        await self._session.execute(delete(IdempotencyKey).where(*mine))
