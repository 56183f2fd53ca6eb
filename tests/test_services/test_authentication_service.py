"""Who gets in, who does not, how long a key is remembered, and what is noted of its use."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock

import asyncpg
import pytest
from sqlalchemy import event, select, update

from app.common.errors import TenantSuspended, Unauthenticated
from database.clock import now
from database.models import ApiKey
from database.repositories.key_repository import KeyRepository
from database.session import Database
from services import authentication_service
from services.authentication_service import REMEMBERED_SECONDS, AuthenticationService
from services.key_service import KeyService
from services.key_token import Pepper, Peppers, make_key
from services.new_key import NewKey
from services.principal import TENANT_SCOPES, Principal, Scope
from services.tenant_service import TenantService
from tests.rows import TESTER

_OLD, _NEW = b"s" * 32, b"t" * 32


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authentication(database: Database, clock: Clock) -> AuthenticationService:
    return AuthenticationService(database, Peppers(_OLD), clock=clock)


@pytest.fixture
def keys(database: Database) -> KeyService:
    return KeyService(database, Peppers(_OLD))


@pytest.fixture
async def made(database: Database, keys: KeyService) -> NewKey:
    """A key of the tenant `ours`."""
    return await keys.create(TESTER, (await TenantService(database).create(TESTER, "ours")).id)


@contextmanager
def counted_statements(database: Database) -> Iterator[list[str]]:
    """The statements on keys, by their first word."""
    statements: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "api_keys" in statement:
            statements.append(statement.split(maxsplit=1)[0])

    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", count)
    yield statements
    event.remove(engine, "before_cursor_execute", count)


async def _refusal(authentication: AuthenticationService, key: str | None) -> tuple[str, str | None, str | None]:
    with pytest.raises(Unauthenticated) as caught:
        await authentication.authenticate(key)
    return caught.value.message, caught.value.code, caught.value.param


async def _row(database: Database, key_id: str) -> ApiKey:
    async with database.begin_global() as session:
        return (await session.scalars(select(ApiKey).where(ApiKey.id == key_id))).one()


async def _set(database: Database, key_id: str, **columns: Any) -> None:
    async with database.begin_global() as session:
        await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(**columns))


async def test_a_made_key_is_its_tenants_principal(
    database: Database, keys: KeyService, authentication: AuthenticationService
) -> None:
    tenants = TenantService(database)
    await tenants.create(TESTER, "theirs")
    ours = await tenants.create(TESTER, "ours", keeps_content=False)
    made = await keys.create(TESTER, ours.id, scopes={Scope.CHAT}, models=["a model"])
    assert await authentication.authenticate(made.secret) == Principal(
        tenant_id=ours.id,
        key_id=made.row.id,
        scopes=frozenset({Scope.CHAT}),
        models=frozenset({"a model"}),
        keeps_content=False,
    )


async def test_no_unknown_malformed_revoked_or_expired_key_can_be_told_from_another(
    database: Database, keys: KeyService, made: NewKey, authentication: AuthenticationService
) -> None:
    tenants = TenantService(database)
    tenant_id = made.row.tenant_id
    revoked, expired = [await keys.create(TESTER, tenant_id) for _ in range(2)]
    for valid in (revoked, expired, made):
        await AuthenticationService(database, Peppers(_OLD)).authenticate(valid.secret)
    await keys.revoke(TESTER, tenant_id, revoked.row.id)
    await keys.change(TESTER, tenant_id, expired.row.id, expires_at=now())
    tried = [None, "", "malformed", made.secret[:-1], make_key(), "a-secret-of-somebody's-own-making"]
    tried += [revoked.secret, expired.secret]
    refusals = {await _refusal(authentication, key) for key in tried}
    # Nor does a void key tell of its tenant.
    await tenants.suspend(TESTER, tenant_id)
    refusals |= {await _refusal(authentication, key) for key in tried}
    assert len(refusals) == 1


async def test_a_suspended_tenants_key_is_forbidden_not_noted_as_used_and_let_in_again(
    database: Database, made: NewKey, authentication: AuthenticationService
) -> None:
    tenants = TenantService(database)
    await tenants.suspend(TESTER, made.row.tenant_id)
    with pytest.raises(TenantSuspended) as caught:
        await authentication.authenticate(made.secret)
    error = caught.value
    assert (error.status, error.type, error.code) == (403, "permission_error", "tenant_suspended")
    assert (await _row(database, made.row.id)).last_used_at is None
    await tenants.resume(TESTER, made.row.tenant_id)
    await authentication.authenticate(made.secret)


async def test_only_the_administrators_keys_administer_whatever_a_row_says(
    database: Database, made: NewKey, authentication: AuthenticationService
) -> None:
    await _set(database, made.row.id, scopes=["admin", "chat"])
    assert (await authentication.authenticate(made.secret)).scopes == {Scope.CHAT}


async def test_a_malformed_key_costs_no_query_and_a_possible_one_a_single_one(
    database: Database, authentication: AuthenticationService
) -> None:
    await database.ping()
    key = make_key()
    with counted_statements(database) as statements:
        for malformed in (None, "", "short", key[:-1], key[:-1] + ("0" if key[-1] != "0" else "1"), "x" * 10_000):
            await _refusal(authentication, malformed)
        assert statements == []
        await _refusal(authentication, key)
    assert statements == ["SELECT"]


async def test_a_key_is_remembered_for_a_moment_and_what_was_revoked_is_refused_within_five_seconds(
    database: Database, keys: KeyService, made: NewKey, authentication: AuthenticationService, clock: Clock
) -> None:
    await authentication.authenticate(made.secret)
    with counted_statements(database) as statements:
        await authentication.authenticate(made.secret)
    assert statements == []
    await keys.revoke(TESTER, made.row.tenant_id, made.row.id)
    assert REMEMBERED_SECONDS < 5
    clock.seconds += REMEMBERED_SECONDS
    await _refusal(authentication, made.secret)


async def test_of_a_crowd_with_one_key_one_asks_the_database(
    database: Database, authentication: AuthenticationService, made: NewKey
) -> None:
    with counted_statements(database) as statements:
        found = await asyncio.gather(*(authentication.authenticate(made.secret) for _ in range(20)))
    assert {one.key_id for one in found} == {made.row.id}
    assert statements.count("SELECT") == 1


async def test_a_crowd_with_an_unknown_key_is_refused_one_and_all(authentication: AuthenticationService) -> None:
    unknown = make_key()
    crowd = (authentication.authenticate(unknown) for _ in range(5))
    refused = await asyncio.gather(*crowd, return_exceptions=True)
    assert [type(one) for one in refused] == [Unauthenticated] * 5


async def test_a_key_that_is_remembered_is_refused_from_the_moment_it_expires(
    database: Database,
    made: NewKey,
    authentication: AuthenticationService,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However slow the machine.
    monkeypatch.setattr(authentication_service, "REMEMBERED_SECONDS", 600)
    left = 300
    await _set(database, made.row.id, expires_at=now() + timedelta(seconds=left))
    await authentication.authenticate(made.secret)
    await _set(database, made.row.id, expires_at=now())
    await authentication.authenticate(made.secret)
    clock.seconds += left
    await _refusal(authentication, made.secret)


async def test_no_more_keys_are_remembered_than_there_is_room_for(
    database: Database, keys: KeyService, made: NewKey, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(authentication_service, "_REMEMBERED_KEYS", 3)
    authentication = AuthenticationService(database, Peppers(_OLD), clock=clock)
    secrets = [made.secret, *[(await keys.create(TESTER, made.row.tenant_id)).secret for _ in range(4)]]
    for secret in [*secrets, secrets[-1]]:
        await authentication.authenticate(secret)
    assert len(authentication._remembered) == 3
    with counted_statements(database) as statements:
        for secret in secrets[-3:]:
            await authentication.authenticate(secret)
    assert statements == []


async def test_use_is_noted_once_a_minute(
    database: Database, made: NewKey, authentication: AuthenticationService, clock: Clock
) -> None:
    async def used() -> list[str]:
        clock.seconds += REMEMBERED_SECONDS
        with counted_statements(database) as statements:
            await authentication.authenticate(made.secret)
        return statements

    assert (await _row(database, made.row.id)).last_used_at is None
    assert await used() == ["SELECT", "UPDATE"]
    assert await used() == ["SELECT"]
    noted = (await _row(database, made.row.id)).last_used_at
    assert noted is not None
    await _set(database, made.row.id, last_used_at=noted - timedelta(minutes=2))
    assert await used() == ["SELECT", "UPDATE"]
    again = (await _row(database, made.row.id)).last_used_at
    assert again is not None
    assert again >= noted


async def test_a_key_is_let_in_though_the_disk_is_too_full_to_note_it(
    database: Database, made: NewKey, authentication: AuthenticationService, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    is_sqlite = database._connections is None
    noting = AsyncMock(side_effect=full if is_sqlite else asyncpg.DiskFullError("no space left"))
    monkeypatch.setattr(KeyRepository, "touch", noting)
    assert (await authentication.authenticate(made.secret)).key_id == made.row.id
    noting.assert_awaited_once()


async def test_a_refused_key_is_not_noted_as_used(
    database: Database, keys: KeyService, made: NewKey, authentication: AuthenticationService
) -> None:
    await keys.revoke(TESTER, made.row.tenant_id, made.row.id)
    await _refusal(authentication, made.secret)
    assert (await _row(database, made.row.id)).last_used_at is None


async def test_a_key_under_another_pepper_is_unknown(database: Database, made: NewKey) -> None:
    await _refusal(AuthenticationService(database, Peppers(_NEW)), made.secret)


async def test_after_a_change_of_the_secret_a_key_is_let_in_and_moves_to_the_new_pepper(
    database: Database, keys: KeyService, made: NewKey, authentication: AuthenticationService
) -> None:
    unused = await keys.create(TESTER, made.row.tenant_id)
    await authentication.authenticate(made.secret)
    principal = await AuthenticationService(database, Peppers(_NEW, b"u" * 32, _OLD)).authenticate(made.secret)
    assert principal.key_id == made.row.id
    row = await _row(database, made.row.id)
    assert (row.pepper_id, row.hash) == (Pepper(_NEW).id, Pepper(_NEW).hash(made.secret))
    # From now on the old secret is not needed for this key any more, and is for the one that was not used.
    without = AuthenticationService(database, Peppers(_NEW))
    assert (await without.authenticate(made.secret)).scopes == TENANT_SCOPES
    await _refusal(without, unused.secret)
    assert (await _row(database, unused.row.id)).pepper_id == Pepper(_OLD).id
