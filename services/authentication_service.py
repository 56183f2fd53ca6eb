"""API keys turned into principals."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from app.common.errors import ReadOnly, StorageFull, TenantSuspended, Unauthenticated
from database.models import ApiKey, Tenant
from database.repositories.key_repository import FoundKey, KeyRepository
from database.session import Database
from services.key_token import Peppers, may_exist
from services.principal import Principal, Scope

# For so long a key that was let in is not looked up again: on every replica a change to keys or tenants takes
# effect after this many seconds at the latest.
REMEMBERED_SECONDS = 2.0
_REMEMBERED_KEYS = 10_000
_TOUCHED_EVERY = timedelta(minutes=1)


class AuthenticationService:
    """Finds keys by their full HMAC, so that no comparison can leak one."""

    def __init__(self, database: Database, peppers: Peppers, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds, for forgetting."""
        self._database = database
        self._peppers = peppers
        self._clock = clock
        self._remembered: dict[str, tuple[Principal, float]] = {}
        self._looking: dict[str, asyncio.Event] = {}

    async def authenticate(self, key: str | None) -> Principal:
        """The principal of a key. Raises Unauthenticated, in the same words for every cause, or TenantSuspended."""
        refusal = no_valid_key()
        if key is None or not may_exist(key):
            raise refusal
        hashes = self._peppers.hashes(key)
        while (known := self._recall(hashes[0])) is None:
            if (looking := self._looking.get(hashes[0])) is None:
                return await self._look_up(hashes, refusal)
            # Of a crowd that comes with one key, one asks the database. Who finds no principal then asks as well.
            await looking.wait()
        return known

    async def _look_up(self, hashes: Sequence[str], refusal: Unauthenticated) -> Principal:
        self._looking[hashes[0]] = found = asyncio.Event()
        try:
            return await self._read(hashes, refusal)
        finally:
            del self._looking[hashes[0]]
            found.set()

    async def _read(self, hashes: Sequence[str], refusal: Unauthenticated) -> Principal:
        read_at = self._clock()
        async with self._database.begin_global() as session:
            found = await KeyRepository(session).by_hash(hashes)
        row, tenant, at = admitted(found, refusal)
        await self._touch(row, hashes[0], at)
        principal = _principal(row, tenant)
        left = REMEMBERED_SECONDS if row.expires_at is None else (row.expires_at - at).total_seconds()
        self._remember(hashes[0], principal, read_at + min(left, REMEMBERED_SECONDS))
        return principal

    async def _touch(self, row: ApiKey, hashed: str, at: datetime) -> None:
        """Note the use, at most once a minute, and move the key to the current pepper."""
        pepper, since = self._peppers.current, at - _TOUCHED_EVERY
        if row.pepper_id != pepper.id or row.last_used_at is None or row.last_used_at < since:
            # What is stored can be read while nothing can be written, this note included.
            with suppress(ReadOnly, StorageFull):
                async with self._database.begin_global() as session:
                    await KeyRepository(session).touch(row, since, last_used_at=at, hash=hashed, pepper_id=pepper.id)

    def _recall(self, hashed: str) -> Principal | None:
        principal, until = self._remembered.get(hashed, (None, 0.0))
        return principal if self._clock() < until else None

    def _remember(self, hashed: str, principal: Principal, until: float) -> None:
        # Taken out first, so that the oldest entry is always the first one.
        self._remembered.pop(hashed, None)
        if len(self._remembered) >= _REMEMBERED_KEYS:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[hashed] = principal, until


def no_valid_key() -> Unauthenticated:
    """What is said to whoever sends no key that is let in, whatever the cause."""
    return Unauthenticated("A valid API key is required: send it as 'Authorization: Bearer <key>'.")


def admitted(found: FoundKey | None, refusal: Unauthenticated) -> FoundKey:
    """What was looked for, if it was let in when it was found.

    Raises `refusal` if there is no such key or it is revoked or expired, whatever its tenant; then TenantSuspended.
    """
    if found is None:
        raise refusal
    key, tenant, at = found
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= at):
        raise refusal
    if tenant.suspended_at is not None:
        raise TenantSuspended
    return found


def _principal(key: ApiKey, tenant: Tenant) -> Principal:
    scopes = frozenset(Scope(scope) for scope in key.scopes)
    return Principal(
        tenant_id=tenant.id,
        key_id=key.id,
        # Whatever a row says, only the administrators' keys administer.
        scopes=scopes if tenant.administers else scopes - {Scope.ADMIN},
        models=None if key.models is None else frozenset(key.models),
        keeps_content=tenant.keeps_content,
        weight=tenant.weight,
        max_places=tenant.max_places,
        shares_limits_of=key.limit_subject,
    )
