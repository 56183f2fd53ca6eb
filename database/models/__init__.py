"""Every table, so that `Base.metadata` is complete wherever it is used."""

from database.models.api_key import ApiKey
from database.models.audit_event import AuditEvent
from database.models.base import Base, TenantOwned
from database.models.conversation import Conversation
from database.models.idempotency_key import IdempotencyKey
from database.models.item import Item
from database.models.lease import Lease
from database.models.limit import Limit
from database.models.tenant import Tenant
from database.models.turn import Turn, TurnStatus
from database.models.turn_chunk import TurnChunk
from database.models.turn_text import TurnText
from database.models.usage import Usage

__all__ = [
    "ApiKey",
    "AuditEvent",
    "Base",
    "Conversation",
    "IdempotencyKey",
    "Item",
    "Lease",
    "Limit",
    "Tenant",
    "TenantOwned",
    "Turn",
    "TurnChunk",
    "TurnStatus",
    "TurnText",
    "Usage",
]
