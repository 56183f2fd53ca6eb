"""`/admin/v1/audit`: who changed what."""

from typing import Annotated

from fastapi import Query

from app.controller.auth import AdminCaller
from app.controller.provided import Audit
from app.controller.responses import REFUSALS
from app.controller.router import Router
from database.models import AuditEvent
from schemas.audit_schema import AuditActor, AuditQuery, AuditView
from schemas.page_schema import Page, page_of

router = Router(prefix="/admin/v1/audit", tags=["admin"], responses=REFUSALS)


@router.get("")
async def list_audit_events(
    query: Annotated[AuditQuery, Query()], _caller: AdminCaller, audit: Audit
) -> Page[AuditView]:
    """List changes, newest first."""
    found = await audit.page(query.tenant_id, query.after, query.limit + 1)
    return page_of([_view(event) for event in found], query.limit)


def _view(event: AuditEvent) -> AuditView:
    return AuditView(
        id=event.id,
        created_at=event.created_at,
        actor=AuditActor(type=event.actor_type, id=event.actor_id),
        action=event.action,
        tenant_id=event.tenant_id,
        target_id=event.target_id,
        before=event.before,
        after=event.after,
        request_id=event.request_id,
    )
