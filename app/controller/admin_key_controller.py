"""`/admin/v1/tenants/{tenant_id}/keys`: what callers show."""

from datetime import timedelta
from typing import Annotated

from fastapi import Body, Path, Query

from app.controller.auth import Administrator
from app.controller.provided import Keys
from app.controller.responses import REFUSALS
from app.controller.router import Router
from schemas.key_schema import KeyChange, KeyView, MadeKey, NewKeyRequest, Rotation
from schemas.page_schema import Page, PageQuery, page_of
from schemas.text import Id
from services.new_key import NewKey
from services.principal import Scope

router = Router(prefix="/admin/v1/tenants/{tenant_id}/keys", tags=["admin"], responses=REFUSALS)
TenantId = Annotated[Id, Path()]
KeyId = Annotated[Id, Path()]


@router.post("", status_code=201)
async def create_key(tenant_id: TenantId, wanted: NewKeyRequest, by: Administrator, keys: Keys) -> MadeKey:
    """Make a key; it is shown in this answer and never again."""
    scopes = None if wanted.scopes is None else {Scope(scope) for scope in wanted.scopes}
    made = await keys.create(
        by, tenant_id, name=wanted.name, scopes=scopes, models=wanted.models, expires_at=wanted.expires_at
    )
    return _shown(made)


@router.get("")
async def list_keys(
    tenant_id: TenantId, query: Annotated[PageQuery, Query()], _by: Administrator, keys: Keys
) -> Page[KeyView]:
    """List a tenant's keys, oldest first."""
    found = await keys.page(tenant_id, query.after, query.limit + 1)
    return page_of([KeyView.model_validate(key) for key in found], query.limit)


@router.get("/{key_id}")
async def get_key(tenant_id: TenantId, key_id: KeyId, _by: Administrator, keys: Keys) -> KeyView:
    """Show a key, by what may be shown of it."""
    return KeyView.model_validate(await keys.get(key_id, tenant_id))


@router.post("/{key_id}")
async def change_key(tenant_id: TenantId, key_id: KeyId, change: KeyChange, by: Administrator, keys: Keys) -> KeyView:
    """Give a key another name, other models or another end."""
    return KeyView.model_validate(await keys.change(by, tenant_id, key_id, **change.model_dump(exclude_unset=True)))


@router.post("/{key_id}/revoke")
async def revoke_key(tenant_id: TenantId, key_id: KeyId, by: Administrator, keys: Keys) -> KeyView:
    """Refuse a key, within seconds and for good."""
    return KeyView.model_validate(await keys.revoke(by, tenant_id, key_id))


@router.post("/{key_id}/rotate", status_code=201)
async def rotate_key(
    tenant_id: TenantId,
    key_id: KeyId,
    wanted: Annotated[Rotation, Body(default_factory=Rotation)],
    by: Administrator,
    keys: Keys,
) -> MadeKey:
    """Make a key like this one, which itself is let in for some hours more."""
    return _shown(await keys.rotate(by, tenant_id, key_id, timedelta(hours=wanted.overlap_hours)))


def _shown(made: NewKey) -> MadeKey:
    return MadeKey(**KeyView.model_validate(made.row).model_dump(), key=made.secret)
