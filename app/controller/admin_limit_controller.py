"""`/admin/v1/tenants/{tenant_id}/limits`: how much a tenant and its keys may use."""

from dataclasses import asdict
from typing import Annotated

from fastapi import Path

from app.controller.auth import AdminCaller, Administrator
from app.controller.provided import TheLimits
from app.controller.responses import REFUSALS
from app.controller.router import Router
from schemas.limit_schema import LimitsList, LimitsView, LimitsWanted
from schemas.text import Id
from services.limit_service import KeptLimits, Limits

router = Router(prefix="/admin/v1/tenants/{tenant_id}", tags=["admin"], responses=REFUSALS)
TenantId = Annotated[Id, Path()]


@router.get("/limits")
async def list_limits(tenant_id: TenantId, _caller: AdminCaller, limits: TheLimits) -> LimitsList:
    """List the limits of a tenant and of its keys, and what is used of them."""
    return LimitsList(data=[_view(kept) for kept in await limits.of_tenant(tenant_id)])


@router.post("/limits")
async def set_limits(tenant_id: TenantId, wanted: LimitsWanted, by: Administrator, limits: TheLimits) -> LimitsView:
    """Let these be all limits of a tenant. They count at once, with what is used already."""
    return _view(await limits.set(by, tenant_id, Limits(**wanted.model_dump())))


@router.post("/keys/{key_id}/limits")
async def set_limits_of_key(
    tenant_id: TenantId, key_id: Annotated[Id, Path()], wanted: LimitsWanted, by: Administrator, limits: TheLimits
) -> LimitsView:
    """Let these be all limits of a key, and of those it was rotated from or into, beside those of its tenant."""
    return _view(await limits.set(by, tenant_id, Limits(**wanted.model_dump()), key_id=key_id))


def _view(kept: KeptLimits) -> LimitsView:
    row = kept.row
    return LimitsView(
        key=kept.keys[-1] if kept.keys else None,
        keys=list(kept.keys),
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        turns_at_once=row.turns_at_once,
        tokens_per_day=row.tokens_per_day,
        tokens_per_month=row.tokens_per_month,
        **asdict(kept.use),
    )
