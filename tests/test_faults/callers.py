"""Tenants that share the service under test, and their keys."""

from dataclasses import dataclass

from database.engine import create_engine
from database.session import Database
from services.key_service import KeyService
from services.key_token import Peppers
from services.limit_service import Limits, LimitService
from services.tenant_service import TenantService
from tests.rows import TESTER

SECRET = "a secret of the tests, long enough"
_NO_LIMIT = 10**12
_COUNTING = Limits(
    requests_per_minute=_NO_LIMIT,
    tokens_per_minute=_NO_LIMIT,
    turns_at_once=_NO_LIMIT,
    tokens_per_day=_NO_LIMIT,
    tokens_per_month=_NO_LIMIT,
)
_TENANTS = {"open": None, "counted": _COUNTING, "narrow": Limits(turns_at_once=2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A key, and whose it is; `tenant` is a name."""

    tenant: str
    tenant_id: str
    key_id: str
    key: str


async def make_callers(url: str) -> list[Caller]:
    """Two keys each of three tenants: without limits, with limits that only count, with room for two turns at once."""
    database = Database(create_engine(url))
    keys, limits, callers = KeyService(database, Peppers(SECRET.encode())), LimitService(database), []
    try:
        for name, wanted in _TENANTS.items():
            tenant = await TenantService(database).create(TESTER, name)
            made = [await keys.create(TESTER, tenant.id) for _ in range(2)]
            callers += [Caller(tenant=name, tenant_id=tenant.id, key_id=key.row.id, key=key.secret) for key in made]
            if wanted is not None:
                await limits.set(TESTER, tenant.id, wanted)
                await limits.set(TESTER, tenant.id, _COUNTING, key_id=made[0].row.id)
    finally:
        await database.close()
    return callers
