"""Turns of many keys that begin at once on two replicas, on PostgreSQL: what each of them locks is another's, too."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from database.engine import create_engine
from database.session import Database
from services.key_service import KeyService
from services.key_token import Peppers
from services.limit_service import Limits
from services.principal import TENANT_SCOPES, Principal
from services.turn_log import TurnLog
from tests.conftest import make_tenant
from tests.limited import limit
from tests.rows import TESTER, a_conversation, store
from tests.turns import a_live_turn, an_opening
from tests.whole_database import unbound_connection

_ROUNDS, _KEYS, _CONVERSATIONS_OF_A_KEY = 8, 5, 4


@pytest.fixture
async def replicas(postgres_url: str) -> AsyncIterator[list[Database]]:
    databases = [Database(create_engine(postgres_url)) for _ in range(2)]
    yield databases
    for database in databases:
        await database.close()


@pytest.mark.parametrize("goes_on", [False, True])
async def test_none_is_refused_because_others_lock_in_another_order(replicas: list[Database], goes_on: bool) -> None:
    first = await make_tenant(replicas[0], "ours")
    keys = [await KeyService(replicas[0], Peppers(b"s" * 32)).create(TESTER, first.tenant_id) for _ in range(_KEYS)]
    callers = [Principal(tenant_id=first.tenant_id, key_id=key.row.id, scopes=TENANT_SCOPES) for key in keys]
    for caller in callers:
        await limit(replicas[0], Limits(turns_at_once=10**6), key_id=caller.key_id)
    logs = [TurnLog(database, owner="0" * 32, lease=timedelta(minutes=1)) for database in replicas]
    shuffled = random.Random(1)
    for _ in range(_ROUNDS):
        asked = [(caller, a_conversation()) for caller in callers for _ in range(_CONVERSATIONS_OF_A_KEY)]
        if goes_on:
            await store(replicas[0], first, *(conversation for _, conversation in asked))
        shuffled.shuffle(asked)
        await asyncio.gather(
            *(
                logs[number % 2].open(
                    a_live_turn(conversation.id), an_opening(caller, seen_length=0 if goes_on else None)
                )
                for number, (caller, conversation) in enumerate(asked)
            )
        )
    async with unbound_connection(replicas[0]) as connection:
        begun = await connection.scalar(text("SELECT count(*) FROM turns WHERE status = 'running'"))
    assert begun == _ROUNDS * _KEYS * _CONVERSATIONS_OF_A_KEY
