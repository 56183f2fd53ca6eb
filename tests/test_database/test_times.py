"""Times are aware and UTC, whatever the database makes of them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import StatementError

from database.clock import now
from database.identifier import new_id
from database.models import Tenant
from database.session import Database

_SHANGHAI = timezone(timedelta(hours=8))
_MOMENT = datetime(2026, 11, 22, 13, 0, 0, 123_456, tzinfo=UTC)


async def _store(database: Database, at: datetime) -> str:
    tenant = Tenant(id=new_id(), name="somebody", created_at=at)
    async with database.begin_global() as session:
        session.add(tenant)
    return tenant.id


async def test_a_time_comes_back_as_the_same_moment_in_utc(database: Database) -> None:
    tenant_id = await _store(database, _MOMENT.astimezone(_SHANGHAI))
    async with database.begin_global() as session:
        found = (await session.get_one(Tenant, tenant_id)).created_at
    assert (found, found.utcoffset()) == (_MOMENT, timedelta(0))


async def test_times_are_compared_as_moments(database: Database) -> None:
    await _store(database, _MOMENT)
    async with database.begin_global() as session:
        for bound, expected in ((_MOMENT, 1), (_MOMENT + timedelta(microseconds=1), 0)):
            later = Tenant.created_at >= bound.astimezone(_SHANGHAI)
            assert await session.scalar(select(func.count()).select_from(Tenant).where(later)) == expected


async def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="without a zone"):
        await _store(database, _MOMENT.replace(tzinfo=None))


def test_the_clock_is_aware_and_in_utc() -> None:
    assert now().utcoffset() == timedelta(0)
