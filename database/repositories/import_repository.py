"""What is brought into a tenant: rows with ids of their own, added where they are missing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import ApiKey, Base
from database.repositories.verify_statements import IMPORTED


class ImportRepository:
    """Writes one tenant's content."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add_missing(self, rows: Sequence[Base]) -> int:
        """Insert those whose key the tenant does not have yet, in this order by table; how many there were."""
        by_model: dict[type[Base], dict[Any, Base]] = defaultdict(dict)
        for row in rows:
            by_model[type(row)][_key(row)] = row
        added = 0
        for model, mine in by_model.items():
            column = inspect(model).primary_key[0]
            key = inspect(model).get_property_by_column(column).class_attribute
            there = set(await self._session.scalars(select(key).where(key.in_(list(mine)))))
            missing = [row for one, row in mine.items() if one not in there]
            self._session.add_all(missing)
            await self._session.flush()
            added += len(missing)
        return added

    async def add_missing_keys(self, tenant_id: str, names: Mapping[str, str], at: datetime) -> None:
        """Let there be keys of these ids, by which turns were made elsewhere. Nobody can use the new ones."""
        mine = select(ApiKey.id).where(ApiKey.tenant_id == tenant_id, ApiKey.id.in_(list(names)))
        there = set(await self._session.scalars(mine))
        self._session.add_all(
            ApiKey(
                id=key_id,
                tenant_id=tenant_id,
                name=name,
                prefix=IMPORTED,
                # No key has this hash: it is of nothing that was hashed with a pepper.
                hash=sha256(f"{IMPORTED} {key_id}".encode()).hexdigest(),
                pepper_id=IMPORTED,
                scopes=[],
                created_at=at,
                revoked_at=at,
            )
            for key_id, name in names.items()
            if key_id not in there
        )
        await self._session.flush()


def _key(row: Base) -> Any:
    (column,) = inspect(type(row)).primary_key
    return getattr(row, column.name)
