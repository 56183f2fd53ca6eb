"""`DELETE /admin/v1/tenants/…`: erasing for good, with a report."""

from typing import Annotated

from fastapi import Path, Query

from app.controller.auth import Administrator
from app.controller.provided import Erasure
from app.controller.responses import REFUSALS
from app.controller.router import Router
from schemas.erasure_schema import ErasureReport, Rehearsal, RehearsedUserQuery
from schemas.text import Id

router = Router(prefix="/admin/v1/tenants/{tenant_id}", tags=["admin"], responses=REFUSALS)
TenantId = Annotated[Id, Path()]


@router.delete("")
async def erase_tenant(
    tenant_id: TenantId, query: Annotated[Rehearsal, Query()], by: Administrator, erasure: Erasure
) -> ErasureReport:
    """Erase a suspended tenant with everything it has, its keys included."""
    if query.dry_run:
        return ErasureReport(id=tenant_id, deleted=False, rows=await erasure.preview(tenant_id))
    return ErasureReport(id=tenant_id, rows=await erasure.tenant(by, tenant_id))


@router.delete("/users")
async def erase_tenants_user(
    tenant_id: TenantId, query: Annotated[RehearsedUserQuery, Query()], by: Administrator, erasure: Erasure
) -> ErasureReport:
    """Erase the conversations and turns of one of a tenant's end users."""
    if query.dry_run:
        return ErasureReport(deleted=False, rows=await erasure.preview(tenant_id, user=query.user))
    return ErasureReport(rows=await erasure.user(by, tenant_id, query.user))


@router.delete("/conversations/{conversation_id}")
async def erase_tenants_conversation(
    tenant_id: TenantId,
    conversation_id: Annotated[Id, Path()],
    query: Annotated[Rehearsal, Query()],
    by: Administrator,
    erasure: Erasure,
) -> ErasureReport:
    """Erase one of a tenant's conversations with everything that was said in it."""
    if query.dry_run:
        rows = await erasure.preview(tenant_id, conversation_id=conversation_id)
        return ErasureReport(id=conversation_id, deleted=False, rows=rows)
    return ErasureReport(id=conversation_id, rows=await erasure.conversation(by, tenant_id, conversation_id))
