"""`/v1/usage`: what the caller's tenant has used."""

from typing import Annotated

from fastapi import Header, Query, Response

from app.controller.auth import HistoryReader
from app.controller.provided import UsageSums
from app.controller.responses import REFUSALS, TABLE
from app.controller.router import Router
from app.controller.usage_table import table, wants_table
from database.repositories.usage_repository import UsageFilter
from schemas.usage_schema import UsageList, UsageQuery, UsageRow
from services.usage_service import usage_days

router = Router(prefix="/v1", tags=["usage"], responses=REFUSALS)


@router.get("/usage", response_model=UsageList, responses=TABLE)
async def get_usage(
    query: Annotated[UsageQuery, Query()],
    caller: HistoryReader,
    usage: UsageSums,
    accept: Annotated[str | None, Header()] = None,
) -> Response | UsageList:
    """The tenant's requests, tokens and latencies by day, key and model; as JSON or CSV."""
    wanted = usage_filter(query)
    rows = [UsageRow(**row) for row in await usage.of_tenant(caller.tenant_id, wanted, query.group_by)]
    if wants_table(query.format, accept):
        return table(rows, UsageRow)
    return UsageList(since=wanted.since, until=wanted.until, data=rows)


def usage_filter(query: UsageQuery) -> UsageFilter:
    """What to add up."""
    since, until = usage_days(query.since, query.until)
    return UsageFilter(since=since, until=until, key_id=query.key, model=query.model)
