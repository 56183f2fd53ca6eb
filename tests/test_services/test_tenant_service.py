"""Tenants are made once each."""

import asyncio

import pytest

from app.common.errors import AppError, Conflict, InvalidRequest, NotFound
from database.session import Database
from services.key_service import KeyService
from services.key_token import Peppers
from services.principal import Scope
from services.tenant_service import ADMINISTRATORS, TenantService
from tests.rows import TESTER, a_tenant


@pytest.fixture
def service(database: Database) -> TenantService:
    return TenantService(database)


async def test_tenants_are_listed_by_name(service: TenantService) -> None:
    made = [await service.create(TESTER, name) for name in ("b", "a", "c")]
    listed = await service.all()
    assert [tenant.name for tenant in listed] == ["a", "b", "c"]
    assert {(tenant.id, tenant.created_at) for tenant in listed} == {(one.id, one.created_at) for one in made}


async def test_a_name_that_is_taken_is_a_conflict_and_changes_nothing(service: TenantService) -> None:
    first = await service.create(TESTER, "ours")
    with pytest.raises(Conflict) as caught:
        await service.create(TESTER, "ours")
    assert (caught.value.code, caught.value.param) == ("name_taken", "name")
    assert [tenant.id for tenant in await service.all()] == [first.id]


async def test_of_two_who_want_a_name_at_once_one_gets_it(service: TenantService) -> None:
    ends = await asyncio.gather(*(service.create(TESTER, "ours") for _ in range(4)), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["Conflict", "Conflict", "Conflict", "Tenant"]


@pytest.mark.parametrize("name", ["", " ", " ours", "ours ", "x" * 101, "a\nb", "a\x00b"])
async def test_a_name_nobody_could_see_or_that_has_no_room_is_refused(service: TenantService, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await service.create(TESTER, name)
    assert caught.value.param == "name"
    assert await service.all() == []


@pytest.mark.parametrize("name", ["x" * 100, "名" * 100, "Müller & Söhne", "a'; DROP TABLE tenants; --"])
async def test_any_other_name_is_kept_as_it_is(service: TenantService, name: str) -> None:
    await service.create(TESTER, name)
    assert [tenant.name for tenant in await service.all()] == [name]


async def test_tenants_are_paged_oldest_first(service: TenantService) -> None:
    made = [await service.create(TESTER, name) for name in ("c", "a", "b")]
    first = await service.page(None, 2)
    assert [one.id for one in [*first, *await service.page(first[-1].id, 2)]] == [one.id for one in made]


async def test_a_change_changes_what_it_names_and_nothing_else(service: TenantService) -> None:
    tenant = await service.create(TESTER, "before", turn_days=7)
    await service.change(TESTER, tenant.id, name="after", keeps_content=False)
    await service.change(TESTER, tenant.id, conversation_days=3)
    kept = await service.get(tenant.id)
    assert (kept.name, kept.keeps_content, kept.turn_days, kept.conversation_days) == ("after", False, 7, 3)


async def test_a_name_that_is_taken_cannot_be_given_to_another(service: TenantService) -> None:
    await service.create(TESTER, "ours")
    other = await service.create(TESTER, "theirs")
    with pytest.raises(Conflict):
        await service.change(TESTER, other.id, name="ours")
    with pytest.raises(InvalidRequest):
        await service.change(TESTER, other.id, name=" ")
    assert (await service.get(other.id)).name == "theirs"


async def test_a_suspension_lasts_from_its_first_moment_until_it_is_lifted(service: TenantService) -> None:
    tenant = await service.create(TESTER, "ours")
    since = (await service.suspend(TESTER, tenant.id)).suspended_at
    assert since is not None
    assert (await service.suspend(TESTER, tenant.id)).suspended_at == since
    assert (await service.resume(TESTER, tenant.id)).suspended_at is None


async def test_there_is_one_tenant_of_administrators_and_it_cannot_be_suspended(service: TenantService) -> None:
    administrators = await service.administrators(TESTER)
    assert (await service.administrators(TESTER)).id == administrators.id
    assert [tenant.administers for tenant in await service.all()] == [True]
    with pytest.raises(InvalidRequest):
        await service.suspend(TESTER, administrators.id)


async def test_the_administrators_name_is_given_to_no_other_tenant(service: TenantService) -> None:
    other = await service.create(TESTER, "ours")
    for attempt in (service.create(TESTER, ADMINISTRATORS), service.change(TESTER, other.id, name=ADMINISTRATORS)):
        with pytest.raises(InvalidRequest) as caught:
            await attempt
        assert caught.value.param == "name"
    administrators = await service.administrators(TESTER)
    await service.change(TESTER, administrators.id, name="operations")
    with pytest.raises(InvalidRequest):
        await service.change(TESTER, other.id, name=ADMINISTRATORS)
    assert (await service.change(TESTER, administrators.id, name=ADMINISTRATORS)).name == ADMINISTRATORS


async def test_a_tenant_that_had_the_administrators_name_before_is_to_be_renamed(
    database: Database, service: TenantService
) -> None:
    async with database.begin_global() as session:
        session.add(old := a_tenant(ADMINISTRATORS))
    keys = KeyService(database, Peppers(b"s" * 32))
    for attempt in (service.administrators(TESTER), keys.create(TESTER, old.id, scopes={Scope.ADMIN})):
        with pytest.raises(AppError, match="tenant rename administrators NEW_NAME"):
            await attempt
    # It is still a tenant like any other: who sends its name along changes the rest.
    assert (await service.change(TESTER, old.id, name=ADMINISTRATORS, turn_days=7)).turn_days == 7
    await service.change(TESTER, old.id, name="ours")
    assert (await service.administrators(TESTER)).name == ADMINISTRATORS


async def test_what_is_not_there_is_not_found(service: TenantService) -> None:
    for attempt in (
        service.get("0" * 32),
        service.named("nobody"),
        service.change(TESTER, "0" * 32, name="x"),
        service.suspend(TESTER, "0" * 32),
        service.resume(TESTER, "0" * 32),
    ):
        with pytest.raises(NotFound) as caught:
            await attempt
        assert caught.value.code == "tenant_not_found"
