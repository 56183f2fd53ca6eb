"""Idempotency keys: requests that a caller may send again without being answered, and charged, twice."""

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from database.models.base import ID_LENGTH, Base, TenantOwned


class IdempotencyKey(TenantOwned, Base):
    """A request under a key of the caller's, and how it was answered.

    Attributes:
        key: as the caller sent it.
        fingerprint: of the request; another one under the same key is refused.
        attempt: who answers it; somebody else may only when `expires_at` has come without an answer.
        owner: the instance of that.
        heard_at: when somebody last waited for the answer at another instance.
        status: HTTP status of the answer; None until there is one.
        headers: of the answer, names and values.
        body: of the answer, compressed; None where content is not kept.
        turn_id: what the answer says belongs to this turn, and is erased with it.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "turn_id"], ["turns.tenant_id", "turns.id"], ondelete="CASCADE"),
        Index(None, "tenant_id", "turn_id"),
        Index(None, "tenant_id", "created_at"),
    )

    tenant_id: Mapped[str] = mapped_column(String(ID_LENGTH), ForeignKey("tenants.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[str] = mapped_column(String(ID_LENGTH))
    owner: Mapped[str] = mapped_column(String(ID_LENGTH))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    heard_at: Mapped[datetime | None]
    status: Mapped[int | None]
    headers: Mapped[list[list[str]] | None] = mapped_column(JSON(none_as_null=True))
    body: Mapped[bytes | None]
    turn_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
