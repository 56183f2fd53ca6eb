"""Limits: set and listed by administrators."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from app.common.errors import InvalidRequest, Unavailable
from database.clock import now
from database.clock_skew import check_clock
from database.models import Limit, Turn
from database.repositories.key_repository import KeyRepository
from database.repositories.limit_repository import LimitRepository
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from services.audit_service import Actor, record
from services.key_service import existing_key
from services.limit_use import LimitUse, limit_use
from services.limit_window import minute_began, windows
from services.tenant_service import existing

_LARGEST = 2**53
_TRIES, _BETWEEN_TRIES = 200, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a tenant or a key may use; None does not limit, 0 allows nothing.

    Attributes:
        tokens_per_minute, tokens_per_day, tokens_per_month: prompt and answer together. Minutes, days and months are
            the calendar's, in UTC.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    turns_at_once: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None


@dataclass(frozen=True, slots=True)
class KeptLimits:
    """Limits with what is used of them, and whose they are.

    Attributes:
        use: when they were looked up.
        keys: the ids of all keys of a rotation, oldest first: these are their limits together; none where they are the
            whole tenant's.
    """

    row: Limit
    use: LimitUse
    keys: Sequence[str]


class LimitService:
    """Limits of all tenants, one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(self, by: Actor, tenant_id: str, limits: Limits, *, key_id: str | None = None) -> KeptLimits:
        """Let these be the limits of a tenant, or of one of its keys, and no others; they count at once.

        The keys of a rotation share theirs, whichever of them is named.

        Raises NotFound for a tenant that is not there or a key that is not its own, InvalidRequest for a number that
        is no limit, ClockWrong where nobody could say which day and month it is, and so what is used already.
        """
        for name, value in asdict(limits).items():
            if value is not None and not 0 <= value <= _LARGEST:
                raise InvalidRequest(f"{name} must be between 0 and {_LARGEST}.", param=name)
        subject = await self._subject(tenant_id, key_id)
        await check_clock(self._database)
        for _ in range(_TRIES):
            if (row := await self._set(by, tenant_id, limits, subject)) is not None:
                return row
            await asyncio.sleep(_BETWEEN_TRIES)
        raise Unavailable("The tenant's turns end too fast to be counted; try again.", retry_after=1)

    async def _set(self, by: Actor, tenant_id: str, limits: Limits, subject: str) -> KeptLimits | None:
        async with self._database.begin(tenant_id) as session:
            repository = LimitRepository(session)
            row, running = await repository.get(subject), None
            before = None if row is None else {name: getattr(row, name) for name in asdict(limits)}
            if row is None:
                # What turns do locks the rows that are there. One that is made has to be made while they do nothing.
                running = await repository.stop_turns(tenant_id)
                # Somebody else may have been faster: the next try finds it.
                if running is None or await repository.get(subject) is not None:
                    return None
                # It may have been erased meanwhile.
                existing(await TenantRepository(session).get(tenant_id))
            # Not before: while turns were waited for, the key may have been rotated, and its successor used.
            keys = (await KeyRepository(session).sharing(tenant_id, subject)).get(subject, [])
            if row is None:
                row = Limit(subject=subject)
                await _count(row, repository, running or [], keys or None)
                repository.add(row)
            for name, value in asdict(limits).items():
                setattr(row, name, value)
            if before != (after := asdict(limits)):
                record(session, by, "limit.set", tenant_id=tenant_id, target_id=subject, before=before, after=after)
        return KeptLimits(row, limit_use(row, now()), keys)

    async def of_tenant(self, tenant_id: str) -> list[KeptLimits]:
        """The limits of a tenant and of its keys. Raises NotFound."""
        await self._subject(tenant_id, None)
        async with self._database.begin(tenant_id) as session:
            keys = await KeyRepository(session).sharing(tenant_id)
            rows, at = await LimitRepository(session).all(), now()
        return [KeptLimits(row, limit_use(row, at), keys.get(row.subject, [])) for row in rows]

    async def _subject(self, tenant_id: str, key_id: str | None) -> str:
        """What the limits are kept under. Raises NotFound."""
        async with self._database.begin_global() as session:
            existing(await TenantRepository(session).get(tenant_id))
            if key_id is None:
                return tenant_id
            key = existing_key(await KeyRepository(session).lock(tenant_id, key_id))
            return key.limit_subject or key.id


async def _count(row: Limit, repository: LimitRepository, running: list[Turn], keys: Collection[str] | None) -> None:
    """Begin with what is used already, as if there had been a limit all the time."""
    at = now()
    current = windows(at)
    row.minute, row.day, row.month = current["limit_minute"], current["limit_day"], current["limit_month"]
    ended = await repository.ended_since(minute_began(row.minute), keys)
    ours = [turn for turn in running if keys is None or turn.key_id in keys]
    row.running = len(ours)
    row.minute_requests = len(ended) + sum(_charged_in(turn, "limit_minute", at) for turn in ours)
    row.minute_tokens = sum(turn.prompt_tokens + turn.completion_tokens for turn in ended)
    row.day_tokens = await repository.tokens_since(at.date(), keys)
    row.month_tokens = await repository.tokens_since(at.date().replace(day=1), keys)
    for turn in ours:
        row.minute_tokens += turn.reserved_tokens * _charged_in(turn, "limit_minute", at)
        row.day_tokens += turn.reserved_tokens * _charged_in(turn, "limit_day", at)
        row.month_tokens += turn.reserved_tokens * _charged_in(turn, "limit_month", at)


def _charged_in(turn: Turn, window: str, at: datetime) -> bool:
    return windows(turn.reserved_at or turn.created_at)[window] == windows(at)[window]
