"""`/admin/v1/usage`: what all tenants have used."""

from typing import Annotated

from fastapi import Header, Query, Response

from app.controller.auth import AdminCaller
from app.controller.provided import UsageSums
from app.controller.responses import REFUSALS, TABLE
from app.controller.router import Router
from app.controller.usage_controller import usage_filter
from app.controller.usage_table import table, wants_table
from schemas.usage_schema import TenantsUsageList, TenantsUsageQuery, TenantsUsageRow

router = Router(prefix="/admin/v1/usage", tags=["admin"], responses=REFUSALS)


@router.get("", response_model=TenantsUsageList, responses=TABLE)
async def get_usage_of_tenants(
    query: Annotated[TenantsUsageQuery, Query()],
    _caller: AdminCaller,
    usage: UsageSums,
    accept: Annotated[str | None, Header()] = None,
) -> Response | TenantsUsageList:
    """Requests, tokens and latencies of all tenants or one, by day, key and model; as JSON or CSV."""
    wanted = usage_filter(query)
    found = await usage.of_all(wanted, query.group_by, tenant_id=query.tenant_id)
    rows = [TenantsUsageRow(**row) for row in found]
    if wants_table(query.format, accept):
        return table(rows, TenantsUsageRow)
    return TenantsUsageList(since=wanted.since, until=wanted.until, data=rows)
