"""Items: what was said in a conversation, in order."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from database.models.base import ID_LENGTH, Base, TenantOwned


class Item(TenantOwned, Base):
    """One thing said. It belongs to a conversation, to a turn, or to both.

    Attributes:
        turn_id: the turn that said it; None for a history that the caller brought along.
        position: its place in the conversation; grows, may have gaps where something was erased.
        type: `message`.
        role: `system`, `user` or `assistant`.
    """

    __tablename__ = "items"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("conversation_id", "position"),
        ForeignKeyConstraint(
            ["tenant_id", "conversation_id"], ["conversations.tenant_id", "conversations.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["tenant_id", "turn_id"], ["turns.tenant_id", "turns.id"], ondelete="CASCADE"),
        CheckConstraint("conversation_id IS NOT NULL OR turn_id IS NOT NULL", name="owner"),
        Index(None, "tenant_id", "turn_id"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    conversation_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    turn_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    position: Mapped[int]
    type: Mapped[str] = mapped_column(String(32))
    role: Mapped[str] = mapped_column(String(16))
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
