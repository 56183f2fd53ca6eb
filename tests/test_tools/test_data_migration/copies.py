"""Databases to copy, and what is in them."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import select, text, update

from database.clock import now
from database.engine import create_engine
from database.models import Lease, Turn, TurnText
from database.session import Database
from services.principal import Principal
from tests.administration import Command
from tests.conftest import make_tenant
from tests.rows import a_text, a_turn, an_audit_event, store, store_one_of_each
from tests.whole_database import unbound_connection

Result = TypeVar("Result")
ODD = "嗨 👩‍👩‍👧 \\N \\t\t\n\"quoted\" {1,2} 'x' \u2028 \ufeff end\\"


def on(url: str, work: Callable[[Database], Coroutine[None, None, Result]]) -> Result:
    async def opened() -> Result:
        database = Database(create_engine(url))
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(opened())


def fill(url: str, *names: str) -> list[Principal]:
    """Tenants with a row in every table, and one turn with odd values."""

    async def filled(database: Database) -> list[Principal]:
        made = []
        for name in names:
            principal = await make_tenant(database, name)
            await store_one_of_each(database, principal)
            odd = a_turn(
                principal,
                user=ODD[:20],
                parameters={"stop": [ODD], "temperature": 0.1, "seed": 2**53, "none": None},
                created_at=datetime(2026, 3, 29, 1, 59, 59, 999999, tzinfo=UTC),
            )
            await store(database, principal, odd, a_text(odd, ODD, ""), an_audit_event())
            made.append(principal)
        async with database.begin_global() as session:
            # Of a process that died, or the copy would wait for its turn.
            await session.execute(update(Lease).values(expires_at=now() - timedelta(minutes=1)))
        return made

    return on(url, filled)


def turns(url: str, principal: Principal) -> dict[str, tuple[Any, ...]]:
    async def read(database: Database) -> dict[str, tuple[Any, ...]]:
        async with database.begin(principal.tenant_id) as session:
            found = list(await session.scalars(select(Turn)))
            said = {text.turn_id: (text.prompt, text.response) for text in await session.scalars(select(TurnText))}
            return {
                turn.id: (turn.user, turn.parameters, turn.created_at, turn.status, said.get(turn.id)) for turn in found
            }

    return on(url, read)


def copied(run: Command, urls: tuple[str, str], *options: str) -> dict[str, dict[str, Any]]:
    rows = run.json("copy", "--from", urls[0], "--to", urls[1], *options)
    return {row["table"]: row for row in rows}


async def store_turns(database: Database, principal: Principal, number: int) -> None:
    made = [a_turn(principal, created_at=now() - timedelta(minutes=minute)) for minute in range(number)]
    async with database.begin(principal.tenant_id) as session:
        session.add_all(made)
        await session.flush()
        session.add_all([a_text(turn, "你好 🙂 " * 20) for turn in made])


async def count(url: str) -> int:
    """Turns of all tenants."""
    async with unbound_connection(url) as connection:
        return int((await connection.execute(text("SELECT count(*) FROM turns"))).scalar_one())
