"""Tenants are made once each."""

import asyncio

import pytest

from app.common.errors import Conflict, InvalidRequest
from database.session import Database
from services.tenant_service import TenantService


@pytest.fixture
def service(database: Database) -> TenantService:
    return TenantService(database)


async def test_tenants_are_listed_by_name(service: TenantService) -> None:
    made = [await service.create(name) for name in ("b", "a", "c")]
    listed = await service.all()
    assert [tenant.name for tenant in listed] == ["a", "b", "c"]
    assert {(tenant.id, tenant.created_at) for tenant in listed} == {(one.id, one.created_at) for one in made}


async def test_a_name_that_is_taken_is_a_conflict_and_changes_nothing(service: TenantService) -> None:
    first = await service.create("ours")
    with pytest.raises(Conflict) as caught:
        await service.create("ours")
    assert (caught.value.code, caught.value.param) == ("name_taken", "name")
    assert [tenant.id for tenant in await service.all()] == [first.id]


async def test_of_two_who_want_a_name_at_once_one_gets_it(service: TenantService) -> None:
    ends = await asyncio.gather(*(service.create("ours") for _ in range(4)), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["Conflict", "Conflict", "Conflict", "Tenant"]


@pytest.mark.parametrize("name", ["", " ", " ours", "ours ", "x" * 101, "a\nb", "a\x00b"])
async def test_a_name_nobody_could_see_or_that_has_no_room_is_refused(service: TenantService, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await service.create(name)
    assert caught.value.param == "name"
    assert await service.all() == []


@pytest.mark.parametrize("name", ["x" * 100, "名" * 100, "Müller & Söhne", "a'; DROP TABLE tenants; --"])
async def test_any_other_name_is_kept_as_it_is(service: TenantService, name: str) -> None:
    await service.create(name)
    assert [tenant.name for tenant in await service.all()] == [name]
