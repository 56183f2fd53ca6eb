"""`POST /admin/v1/purge`: what the service does by itself every hour, now."""

from typing import Annotated

from fastapi import Query

from app.controller.auth import Administrator
from app.controller.provided import Retention
from app.controller.responses import REFUSALS
from app.controller.router import Router
from schemas.erasure_schema import ErasureReport, Rehearsal

router = Router(prefix="/admin/v1", tags=["admin"], responses=REFUSALS)


@router.post("/purge")
async def purge(query: Annotated[Rehearsal, Query()], by: Administrator, retention: Retention) -> ErasureReport:
    """Delete now what tenants no longer want kept; rows by table, of all tenants together."""
    if query.dry_run:
        return ErasureReport(deleted=False, rows=await retention.preview())
    return ErasureReport(rows=await retention.purge(by))
