"""A new secret, on replicas that are restarted one by one: which order keeps every key and token valid."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise, permutations

import pytest

from app.common.errors import Unauthenticated
from database.clock import now
from database.identifier import new_id
from database.session import Database
from services.authentication_service import AuthenticationService
from services.key_service import KeyService
from services.key_token import Peppers
from services.principal import Principal
from services.stream_access import StreamAccess
from services.tenant_service import TenantService
from tests.rows import TESTER

_OLD, _NEW = b"s" * 32, b"t" * 32
# The current secret of each replica first, in the rounds that README has.
_ROUNDS: list[Sequence[bytes]] = [(_OLD,), (_OLD, _NEW), (_NEW, _OLD), (_NEW,)]


@pytest.fixture
async def tenant_id(database: Database) -> str:
    return (await TenantService(database).create(TESTER, "ours")).id


async def _authenticated(database: Database, secrets: Sequence[bytes], key: str) -> Principal:
    """On a replica with these secrets that remembers nothing."""
    return await AuthenticationService(database, Peppers(*secrets)).authenticate(key)


async def test_a_key_works_on_every_replica_while_a_round_goes_through(database: Database, tenant_id: str) -> None:
    key = (await KeyService(database, Peppers(_OLD)).create(TESTER, tenant_id)).secret
    for before, after in pairwise(_ROUNDS):
        for secrets in (before, after, before, after):
            made = await KeyService(database, Peppers(*secrets)).create(TESTER, tenant_id)
            # To and fro; in the end all replicas are the new ones.
            for asked in (before, after):
                principal = await _authenticated(database, asked, key)
                assert principal.tenant_id == tenant_id
                assert (await _authenticated(database, asked, made.secret)).key_id == made.row.id


async def test_a_streams_token_is_taken_on_every_replica_while_a_round_goes_through(
    database: Database, tenant_id: str
) -> None:
    made = await KeyService(database, Peppers(_OLD)).create(TESTER, tenant_id)
    principal, turn_id = await _authenticated(database, (_OLD,), made.secret), new_id()
    for before, after in pairwise(_ROUNDS):
        for made_by, asked in permutations((StreamAccess(database, *one) for one in (before, after)), 2):
            token = made_by.token(principal, turn_id, now() + timedelta(hours=1))
            assert await asked.tenant(token, turn_id) == tenant_id


async def test_without_the_first_round_old_replicas_refuse_a_key_that_has_moved(
    database: Database, tenant_id: str
) -> None:
    key = (await KeyService(database, Peppers(_OLD)).create(TESTER, tenant_id)).secret
    await _authenticated(database, (_NEW, _OLD), key)
    with pytest.raises(Unauthenticated):
        await _authenticated(database, (_OLD,), key)
    # What went wrong is put right by letting the old replicas know the new secret.
    await _authenticated(database, (_OLD, _NEW), key)
    await _authenticated(database, (_OLD,), key)
