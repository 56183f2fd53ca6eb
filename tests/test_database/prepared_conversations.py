"""Conversations as prepared statements add and list them."""

from typing import Any

from sqlalchemy import insert, select

from database.models import Conversation
from database.prepared import OWN_TENANT, Prepared, given

TABLE: Any = Conversation.__table__
OWN = TABLE.c.tenant_id == OWN_TENANT
# Given its `id`, and `at`.
INSERT = insert(TABLE).values(
    tenant_id=OWN_TENANT,
    id=given("id", TABLE.c.id),
    length=0,
    labels={},
    created_at=given("at", TABLE.c.created_at),
    used_at=given("at", TABLE.c.created_at),
)
LIST = Prepared(select(TABLE.c.id).where(OWN))
