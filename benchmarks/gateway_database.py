"""The database of `benchmarks.gateway`: what is in it before, and what it costs to be durable there."""

import asyncio
import time
from statistics import median

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine import create_engine
from database.session import Database
from services.audit_service import Actor
from services.limit_service import Limits, LimitService
from services.tenant_service import TenantService

_TENANT = "default"
_BENCHMARK = Actor(type="command_line", id="benchmark")
_PLENTY = 10**12
_LIMITS = Limits(
    requests_per_minute=_PLENTY,
    tokens_per_minute=_PLENTY,
    turns_at_once=_PLENTY,
    tokens_per_day=_PLENTY,
    tokens_per_month=_PLENTY,
)
_FILLED_AT_ONCE = 50_000
_FILL = text(
    """
    WITH made AS (
        INSERT INTO turns (id, tenant_id, key_id, endpoint, model, parameters, status, prompt_tokens, cached_tokens,
            completion_tokens, dropped_turns, created_at, finished_at)
        SELECT lpad(to_hex(n), 32, '0'), CAST(:tenant AS varchar), CAST(:key AS varchar), '/chat/new/message/',
            'scripted', '{}', 'completed', 50, 0, 200, 0, now() - interval '1 year', now() - interval '1 year'
        FROM generate_series(CAST(:first AS int), CAST(:last AS int)) n
        RETURNING id)
    INSERT INTO turn_texts (turn_id, tenant_id, prompt, response)
    SELECT id, CAST(:tenant AS varchar), repeat('word ', 40), repeat('word ', 160) FROM made
    """
)
_UNKNOWN = text(
    "SELECT count(*) FROM pg_stat_user_tables WHERE relname IN ('turns', 'turn_texts', 'items', 'conversations', "
    "'limits') AND last_analyze IS NULL AND last_autoanalyze IS NULL"
)
_COMMITS = 50


async def prepare(url: str, turns: int) -> None:
    """Give the tenant and its key limits of every kind, none of which is ever reached; fill the tables."""
    engine = create_engine(url, timeout=600)
    database = Database(engine)
    service = LimitService(database)
    tenant = await TenantService(database).named(_TENANT)
    await service.set(_BENCHMARK, tenant.id, _LIMITS)
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT id FROM api_keys WHERE tenant_id = :id"), {"id": tenant.id})
        key_id = found.scalar_one()
        await connection.rollback()
        await _fill(connection, tenant.id, key_id, turns)
    await service.set(_BENCHMARK, tenant.id, _LIMITS, key_id=key_id)
    await database.close()


async def _fill(connection: AsyncConnection, tenant_id: str, key_id: str, turns: int) -> None:
    for first in range(1, turns + 1, _FILLED_AT_ONCE):
        await connection.execute(text("SELECT set_config('chatglm.tenant_id', :id, true)"), {"id": tenant_id})
        last = min(turns, first + _FILLED_AT_ONCE - 1)
        await connection.execute(_FILL, {"tenant": tenant_id, "key": key_id, "first": first, "last": last})
        await connection.commit()


async def wait_for_statistics(url: str, seconds: float = 150.0) -> bool:
    """Wait until PostgreSQL has looked at its tables, as it does once a minute; whether it has.

    What it plans for tables that it has never looked at may read any index, and is slower with every turn.
    """
    engine = create_engine(url)
    give_up = time.monotonic() + seconds
    try:
        if engine.dialect.name != "postgresql":
            return True
        async with engine.connect() as connection:
            while await connection.scalar(_UNKNOWN):
                await connection.rollback()
                if time.monotonic() > give_up:
                    return False
                await asyncio.sleep(1)
        return True
    finally:
        await engine.dispose()


async def commit_ms(url: str) -> float:
    """The median of transactions that change one row: a turn needs two commits at least."""
    engine = create_engine(url)
    taken = []
    async with engine.connect() as connection:
        for _ in range(_COMMITS):
            began = time.perf_counter()
            await connection.execute(text("UPDATE tenants SET name = name WHERE name = :name"), {"name": _TENANT})
            await connection.commit()
            taken.append(1000 * (time.perf_counter() - began))
    await engine.dispose()
    return median(taken)
