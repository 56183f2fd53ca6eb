"""Usage: what a tenant's turns add up to."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from app.common.errors import InvalidRequest
from database.clock import now
from database.repositories.tenant_repository import TenantRepository
from database.repositories.usage_repository import UsageFilter, UsageRepository
from database.repositories.usage_statements import SUMS
from database.session import Database
from services.tenant_service import existing

DIMENSIONS = ("day", "key", "model")
_LONGEST = timedelta(days=366)
_DEFAULT = timedelta(days=30)
_MOST_ROWS = 10_000


class UsageService:
    """Sums of settled turns: each was added once, in the transaction that ended it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_tenant(
        self, tenant_id: str, wanted: UsageFilter, by: Sequence[str] = DIMENSIONS
    ) -> list[dict[str, Any]]:
        """Rows by the dimensions named, with mean latencies of the completed turns, ms.

        Raises InvalidRequest for more than a year, or more rows than one answer holds.
        """
        if not timedelta() <= wanted.until - wanted.since <= _LONGEST:
            raise InvalidRequest(f"Ask for 1 to {_LONGEST.days} days.", param="since", code="invalid_value")
        async with self._database.begin(tenant_id) as session:
            rows = await UsageRepository(session).sums(wanted, by, _MOST_ROWS + 1)
        if len(rows) > _MOST_ROWS:
            raise InvalidRequest(f"There are more than {_MOST_ROWS} rows; ask for fewer days.", param="since")
        return [_told(row) for row in rows]

    async def of_all(
        self, wanted: UsageFilter, by: Sequence[str] = DIMENSIONS, *, tenant_id: str | None = None
    ) -> list[dict[str, Any]]:
        """The same of every tenant, or of the one of that id, by name. Raises NotFound too."""
        async with self._database.begin_global() as session:
            tenants = TenantRepository(session)
            found = await tenants.all() if tenant_id is None else [existing(await tenants.get(tenant_id))]
        return [{"tenant": one.name, **row} for one in found for row in await self.of_tenant(one.id, wanted, by)]


def usage_days(since: date | None, until: date | None) -> tuple[date, date]:
    """From which to which day, in UTC and both included: by default the last 30 days."""
    end = until or now().date()
    return since or max(end, date.min + _DEFAULT) - _DEFAULT, end


def names_of_all(by: Sequence[str] = DIMENSIONS) -> list[str]:
    """What each row of `of_all` holds, in order, also where there is none."""
    return ["tenant", *(name for name in DIMENSIONS if name in by), *SUMS, "total_tokens"]


def _told(row: dict[str, Any]) -> dict[str, Any]:
    completed = row["requests"] - row["cancelled"] - row["failed"]
    means = {name: round(row[name] / completed, 1) if completed else None for name in ("first_token_ms", "duration_ms")}
    return {**row, "total_tokens": row["prompt_tokens"] + row["completion_tokens"], **means}
