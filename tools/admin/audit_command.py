"""`audit`: who changed what."""

from typing import Annotated, Any

import typer

from app.settings import Settings
from database.models import AuditEvent
from database.session import Database
from services.audit_service import AuditService
from services.tenant_service import TenantService
from tools.admin.opened import AsJson, an_id, show, with_database


def audit(
    tenant: Annotated[str | None, typer.Option(help="Only what concerned the tenant of this name.")] = None,
    tenant_id: Annotated[
        str | None, typer.Option(callback=an_id, help="The same by its id, also of one that was erased.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Events at the most.")] = 100,
    after: Annotated[
        str | None, typer.Option(callback=an_id, help="The id of the last event seen; older ones follow.")
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """List what was changed, by whom and when, newest first."""
    if tenant is not None and tenant_id is not None:
        raise typer.BadParameter("give either --tenant or --tenant-id")

    async def work(_settings: Settings, database: Database) -> list[AuditEvent]:
        wanted = tenant_id if tenant is None else (await TenantService(database).named(tenant)).id
        return await AuditService(database).page(wanted, after, limit)

    show([_row(event) for event in with_database(work)], as_json=as_json)


def _row(event: AuditEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "created_at": event.created_at,
        "actor": f"{event.actor_type}: {event.actor_id}",
        "action": event.action,
        "tenant_id": event.tenant_id,
        "target_id": event.target_id,
        "before": event.before,
        "after": event.after,
        "request_id": event.request_id,
    }
