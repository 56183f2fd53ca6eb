"""`/admin/v1/tenants`: who shares the service."""

from typing import Annotated

from fastapi import Path, Query

from app.controller.auth import Administrator
from app.controller.provided import Tenants
from app.controller.responses import REFUSALS
from app.controller.router import Router
from schemas.page_schema import Page, PageQuery, page_of
from schemas.tenant_schema import NewTenant, TenantChange, TenantView
from schemas.text import Id

router = Router(prefix="/admin/v1/tenants", tags=["admin"], responses=REFUSALS)
TenantId = Annotated[Id, Path()]


@router.post("", status_code=201)
async def create_tenant(wanted: NewTenant, by: Administrator, tenants: Tenants) -> TenantView:
    """Make a tenant; it needs a key next."""
    return TenantView.model_validate(await tenants.create(by, **wanted.model_dump(exclude_unset=True)))


@router.get("")
async def list_tenants(query: Annotated[PageQuery, Query()], _by: Administrator, tenants: Tenants) -> Page[TenantView]:
    """List tenants, oldest first."""
    found = await tenants.page(query.after, query.limit + 1)
    return page_of([TenantView.model_validate(tenant) for tenant in found], query.limit)


@router.get("/{tenant_id}")
async def get_tenant(tenant_id: TenantId, _by: Administrator, tenants: Tenants) -> TenantView:
    """Show a tenant."""
    return TenantView.model_validate(await tenants.get(tenant_id))


@router.post("/{tenant_id}")
async def change_tenant(tenant_id: TenantId, change: TenantChange, by: Administrator, tenants: Tenants) -> TenantView:
    """Give a tenant another name, content policy or part of the engine."""
    return TenantView.model_validate(await tenants.change(by, tenant_id, **change.model_dump(exclude_unset=True)))


@router.post("/{tenant_id}/suspend")
async def suspend_tenant(tenant_id: TenantId, by: Administrator, tenants: Tenants) -> TenantView:
    """Refuse a tenant's keys, within seconds, until it is resumed."""
    return TenantView.model_validate(await tenants.suspend(by, tenant_id))


@router.post("/{tenant_id}/resume")
async def resume_tenant(tenant_id: TenantId, by: Administrator, tenants: Tenants) -> TenantView:
    """Let a tenant's keys in again."""
    return TenantView.model_validate(await tenants.resume(by, tenant_id))
