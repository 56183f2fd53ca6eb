"""What is brought into a tenant: rows with ids of their own, added where they are missing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.identifier import part_id
from database.models import ApiKey, Base, Turn
from database.repositories.verify_statements import IMPORTED


class ImportRepository:
    """Writes one tenant's content."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add_missing(self, tenant_id: str, rows: Sequence[Base], keys: Mapping[str, str], at: datetime) -> int:
        """Insert those whose id the tenant does not have yet, in this order by table; how many there were.

        `keys`: names of the API keys, by id, by which the turns were made.
        """
        missing = [await self._missing(model, mine) for model, mine in _by_model(rows).items()]
        turns = [row for group in missing for row in group if isinstance(row, Turn)]
        if turns:
            ids = await self.add_missing_keys(tenant_id, keys, at)
            for turn in turns:
                turn.key_id = ids.get(turn.key_id, turn.key_id)
        for group in missing:
            self._session.add_all(group)
            await self._session.flush()
        return sum(map(len, missing))

    async def _missing(self, model: type[Base], rows: Mapping[Any, Base]) -> list[Base]:
        column = inspect(model).primary_key[0]
        key = inspect(model).get_property_by_column(column).class_attribute
        there = set(await self._session.scalars(select(key).where(key.in_(list(rows)))))
        return [row for one, row in rows.items() if one not in there]

    async def add_missing_keys(self, tenant_id: str, names: Mapping[str, str], at: datetime) -> dict[str, str]:
        """Let there be keys for these, by which turns were made elsewhere; their ids by the given ones.

        Nobody can use them. A key of the same id that somebody has, as in a backup, is left alone: what it has used
        says nothing of turns that were used elsewhere.
        """
        mine = select(ApiKey.id).where(ApiKey.tenant_id == tenant_id)
        living = set(await self._session.scalars(mine.where(ApiKey.id.in_(list(names)), ApiKey.pepper_id != IMPORTED)))
        ids = {key_id: part_id(key_id, IMPORTED) if key_id in living else key_id for key_id in names}
        there = set(await self._session.scalars(mine.where(ApiKey.id.in_(list(ids.values())))))
        self._session.add_all(
            ApiKey(
                id=ids[key_id],
                tenant_id=tenant_id,
                name=name,
                prefix=IMPORTED,
                # No key has this hash: it is of nothing that was hashed with a pepper.
                hash=sha256(f"{IMPORTED} {ids[key_id]}".encode()).hexdigest(),
                pepper_id=IMPORTED,
                scopes=[],
                created_at=at,
                revoked_at=at,
            )
            for key_id, name in names.items()
            if ids[key_id] not in there
        )
        await self._session.flush()
        return ids


def _by_model(rows: Sequence[Base]) -> Mapping[type[Base], dict[Any, Base]]:
    by_model: dict[type[Base], dict[Any, Base]] = defaultdict(dict)
    for row in rows:
        by_model[type(row)][_key(row)] = row
    return by_model


def _key(row: Base) -> Any:
    (column,) = inspect(type(row)).primary_key
    return getattr(row, column.name)
