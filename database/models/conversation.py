"""Conversations: what a turn may continue."""

from datetime import datetime

from sqlalchemy import JSON, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from database.models.base import ID_LENGTH, Base, TenantOwned


class Conversation(TenantOwned, Base):
    """One conversation of a tenant.

    Attributes:
        user: the end user, as the caller names it.
        labels: the caller's own, which OpenAI calls metadata.
        length: positions given out to items so far. A turn that read the conversation at one length and finds
            another when it begins has been overtaken.
        used_at: when the last turn began, or something was added: the clock of retention.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        Index(None, "tenant_id", "user"),
        Index(None, "tenant_id", "used_at"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    user: Mapped[str | None] = mapped_column(String(256))
    labels: Mapped[dict[str, str]] = mapped_column(JSON, default=dict, server_default="{}")
    length: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    used_at: Mapped[datetime]
