"""Keys: made, listed, changed, revoked, rotated; and what is kept of them."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest

from app.common.errors import InvalidRequest, NotFound, Unauthenticated
from database.clock import now
from database.identifier import new_id
from database.session import Database
from services.audit_service import AuditService
from services.authentication_service import AuthenticationService
from services.key_service import KeyService
from services.key_token import Pepper, Peppers
from services.principal import TENANT_SCOPES, Scope
from services.tenant_service import TenantService
from tests.rows import TESTER
from tests.whole_database import columns_holding

_HOUR = timedelta(hours=1)


@pytest.fixture
def keys(database: Database) -> KeyService:
    return KeyService(database, Peppers(b"s" * 32))


@pytest.fixture
async def tenant_id(database: Database) -> str:
    return (await TenantService(database).create(TESTER, "ours")).id


async def _is_let_in(database: Database, secret: str) -> bool:
    try:
        await AuthenticationService(database, Peppers(b"s" * 32)).authenticate(secret)
    except Unauthenticated:
        return False
    return True


async def test_a_key_has_every_scope_but_admin_unless_it_is_the_administrators(
    database: Database, keys: KeyService, tenant_id: str
) -> None:
    administrators = await TenantService(database).administrators(TESTER)
    assert (await keys.create(TESTER, tenant_id)).row.scopes == sorted(TENANT_SCOPES)
    assert (await keys.create(TESTER, administrators.id)).row.scopes == ["admin"]
    both = await keys.create(TESTER, administrators.id, scopes={Scope.ADMIN, Scope.CHAT})
    assert both.row.scopes == ["admin", "chat"]
    with pytest.raises(InvalidRequest) as caught:
        await keys.create(TESTER, tenant_id, scopes={Scope.ADMIN})
    assert caught.value.param == "scopes"
    assert len(await keys.page(tenant_id, None, 10)) == 1


async def test_a_key_for_a_tenant_that_is_not_there_is_refused(keys: KeyService) -> None:
    with pytest.raises(NotFound):
        await keys.create(TESTER, new_id())
    with pytest.raises(NotFound):
        await keys.page(new_id(), None, 10)


async def test_a_name_longer_than_its_column_is_refused_on_every_database(keys: KeyService, tenant_id: str) -> None:
    made = await keys.create(TESTER, tenant_id, name="名" * 100)
    with pytest.raises(InvalidRequest):
        await keys.create(TESTER, tenant_id, name="x" * 101)
    with pytest.raises(InvalidRequest):
        await keys.change(TESTER, tenant_id, made.row.id, name="x" * 101)


@pytest.mark.parametrize("models", [[], [""], ["a", "m" * 257], ["a\n"], ["\udcff"], [str(n) for n in range(101)]])
async def test_a_model_that_cannot_be_is_refused(keys: KeyService, tenant_id: str, models: list[str]) -> None:
    made = await keys.create(TESTER, tenant_id, models=["m" * 256, "模型　1"])
    for attempt in (
        keys.create(TESTER, tenant_id, models=models),
        keys.change(TESTER, tenant_id, made.row.id, models=models),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await attempt
        assert caught.value.param == "models"
    assert [key.models for key in await keys.page(tenant_id, None, 9)] == [["m" * 256, "模型　1"]]


async def test_keys_are_listed_oldest_first_by_tenant_and_page(
    database: Database, keys: KeyService, tenant_id: str
) -> None:
    other = await TenantService(database).create(TESTER, "theirs")
    await keys.create(TESTER, other.id, name="not listed")
    made = [await keys.create(TESTER, tenant_id, name=str(number)) for number in range(5)]
    first = await keys.page(tenant_id, None, 3)
    rest = await keys.page(tenant_id, first[-1].id, 3)
    assert [key.id for key in [*first, *rest]] == [one.row.id for one in made]


async def test_a_change_changes_what_it_names_and_nothing_else(keys: KeyService, tenant_id: str) -> None:
    end = now() + _HOUR
    made = await keys.create(TESTER, tenant_id, name="before", models=["a"], expires_at=end)
    assert (await keys.change(TESTER, tenant_id, made.row.id, name="after")).name == "after"
    kept = await keys.get(made.row.id, tenant_id)
    assert (kept.name, kept.models, kept.expires_at) == ("after", ["a"], end)
    await keys.change(TESTER, tenant_id, made.row.id, models=None, expires_at=None)
    kept = await keys.get(made.row.id, tenant_id)
    assert (kept.name, kept.models, kept.expires_at) == ("after", None, None)


async def test_a_key_that_would_have_expired_already_is_not_made(keys: KeyService, tenant_id: str) -> None:
    with pytest.raises(InvalidRequest):
        await keys.create(TESTER, tenant_id, expires_at=now())


async def test_a_key_that_is_expired_by_a_change_is_refused(
    database: Database, keys: KeyService, tenant_id: str
) -> None:
    made = await keys.create(TESTER, tenant_id)
    assert await _is_let_in(database, made.secret)
    await keys.change(TESTER, tenant_id, made.row.id, expires_at=now())
    assert not await _is_let_in(database, made.secret)


async def test_a_revoked_key_stays_revoked_since_the_first_time(
    database: Database, keys: KeyService, tenant_id: str
) -> None:
    made, other = await keys.create(TESTER, tenant_id), await keys.create(TESTER, tenant_id)
    revoked = await keys.revoke(TESTER, tenant_id, made.row.id)
    assert (await keys.revoke(TESTER, tenant_id, made.row.id)).revoked_at == revoked.revoked_at
    await keys.change(TESTER, tenant_id, made.row.id, expires_at=now() + _HOUR)
    assert not await _is_let_in(database, made.secret)
    assert await _is_let_in(database, other.secret)


async def test_of_another_tenant_a_key_is_as_one_that_does_not_exist(
    database: Database, keys: KeyService, tenant_id: str
) -> None:
    made = await keys.create(TESTER, (await TenantService(database).create(TESTER, "theirs")).id)
    refusals = set()
    for key_id in (made.row.id, new_id()):
        for attempt in (
            keys.get(key_id, tenant_id),
            keys.change(TESTER, tenant_id, key_id, name="mine"),
            keys.revoke(TESTER, tenant_id, key_id),
            keys.rotate(TESTER, tenant_id, key_id, _HOUR),
        ):
            with pytest.raises(NotFound) as caught:
                await attempt
            refusals.add((caught.value.message, caught.value.code, caught.value.param))
    assert len(refusals) == 1
    assert await _is_let_in(database, made.secret)


async def test_both_keys_of_a_rotation_work_until_the_overlap_is_over(
    database: Database, keys: KeyService, tenant_id: str
) -> None:
    old = await keys.create(
        TESTER, tenant_id, name="website", scopes={Scope.CHAT}, models=["a"], expires_at=now() + 10 * _HOUR
    )
    new = await keys.rotate(TESTER, tenant_id, old.row.id, _HOUR)
    assert (new.row.name, new.row.scopes, new.row.models) == ("website", ["chat"], ["a"])
    assert new.row.expires_at is not None
    assert new.row.expires_at - new.row.created_at == old.row.expires_at - old.row.created_at  # type: ignore[operator]
    assert await _is_let_in(database, old.secret)
    assert await _is_let_in(database, new.secret)
    kept = await keys.get(old.row.id, tenant_id)
    assert kept.replaced_by == new.row.id
    assert kept.expires_at == new.row.created_at + _HOUR
    await keys.change(TESTER, tenant_id, old.row.id, expires_at=now())
    assert not await _is_let_in(database, old.secret)
    assert await _is_let_in(database, new.secret)


async def test_a_rotation_without_overlap_ends_the_old_key_at_once(
    database: Database, keys: KeyService, tenant_id: str
) -> None:
    old = await keys.create(TESTER, tenant_id)
    new = await keys.rotate(TESTER, tenant_id, old.row.id, timedelta())
    assert new.row.expires_at is None
    assert [await _is_let_in(database, key.secret) for key in (old, new)] == [False, True]


async def test_a_rotation_never_prolongs_the_old_key(keys: KeyService, tenant_id: str) -> None:
    end = now() + _HOUR
    old = await keys.create(TESTER, tenant_id, expires_at=end)
    await keys.rotate(TESTER, tenant_id, old.row.id, 24 * _HOUR)
    assert (await keys.get(old.row.id)).expires_at == end


async def test_a_key_that_has_expired_is_let_in_again_by_a_later_end(
    database: Database, keys: KeyService, tenant_id: str
) -> None:
    made = await keys.create(TESTER, tenant_id)
    for end in (now() + _HOUR, None):
        await keys.change(TESTER, tenant_id, made.row.id, expires_at=now())
        assert not await _is_let_in(database, made.secret)
        await keys.change(TESTER, tenant_id, made.row.id, expires_at=end)
        assert await _is_let_in(database, made.secret)


async def test_an_overlap_can_be_moved_while_it_lasts_and_never_comes_back(
    database: Database, keys: KeyService, tenant_id: str
) -> None:
    old = await keys.create(TESTER, tenant_id)
    await keys.rotate(TESTER, tenant_id, old.row.id, _HOUR)
    end = now() + 2 * _HOUR
    assert (await keys.change(TESTER, tenant_id, old.row.id, expires_at=end)).expires_at == end
    with pytest.raises(InvalidRequest, match="was rotated"):
        await keys.change(TESTER, tenant_id, old.row.id, expires_at=None)
    await keys.change(TESTER, tenant_id, old.row.id, expires_at=now())
    for later in (now() + _HOUR, None):
        with pytest.raises(InvalidRequest) as caught:
            await keys.change(TESTER, tenant_id, old.row.id, expires_at=later)
        assert caught.value.param == "expires_at"
    assert not await _is_let_in(database, old.secret)
    # The rest of it can still be changed.
    assert (await keys.change(TESTER, tenant_id, old.row.id, name="old")).name == "old"


async def test_only_a_valid_key_is_rotated_and_only_once(keys: KeyService, tenant_id: str) -> None:
    rotated, revoked, expired = [await keys.create(TESTER, tenant_id) for _ in range(3)]
    await keys.rotate(TESTER, tenant_id, rotated.row.id, _HOUR)
    await keys.revoke(TESTER, tenant_id, revoked.row.id)
    await keys.change(TESTER, tenant_id, expired.row.id, expires_at=now())
    for made in (rotated, revoked, expired):
        with pytest.raises(InvalidRequest):
            await keys.rotate(TESTER, tenant_id, made.row.id, _HOUR)
    assert len(await keys.page(tenant_id, None, 10)) == 4


async def test_every_change_of_a_key_is_audited_with_what_it_was_and_became(
    database: Database, keys: KeyService, tenant_id: str
) -> None:
    made = await keys.create(TESTER, tenant_id, name="before")
    await keys.change(TESTER, tenant_id, made.row.id, name="after")
    new = await keys.rotate(TESTER, tenant_id, made.row.id, _HOUR)
    for _ in range(2):
        await keys.revoke(TESTER, tenant_id, made.row.id)
    found = [event for event in await AuditService(database).page(tenant_id, None, 10) if event.action[:3] == "key"]
    assert [(event.action, event.target_id) for event in found] == [
        ("key.revoke", made.row.id),
        ("key.rotate", made.row.id),
        ("key.create", new.row.id),
        ("key.change", made.row.id),
        ("key.create", made.row.id),
    ]

    def changed(at: int) -> dict[str, Any]:
        before, after = found[at].before or {}, found[at].after or {}
        return {name: after[name] for name in after if before.get(name) != after[name]}

    assert (found[3].before or {})["name"] == "before"
    assert changed(3) == {"name": "after"}
    assert changed(1).keys() == {"replaced_by", "expires_at"}
    assert changed(0).keys() == {"revoked_at"}


async def test_nothing_stored_tells_a_key(database: Database, keys: KeyService, tenant_id: str) -> None:
    made = await keys.create(TESTER, tenant_id)
    new = await keys.rotate(TESTER, tenant_id, made.row.id, _HOUR)
    for secret in (made.secret, new.secret):
        assert await columns_holding(database, secret[15:], hashlib.sha256(secret.encode()).hexdigest()) == set()
        assert await columns_holding(database, Pepper(b"s" * 32).hash(secret)) == {"api_keys.hash"}
