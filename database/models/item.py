"""Items: what was said, in order: messages, calls of functions and what these returned."""

from datetime import datetime

from sqlalchemy import JSON, CheckConstraint, ForeignKeyConstraint, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from database.models.base import ID_LENGTH, Base, TenantOwned


class Item(TenantOwned, Base):
    """One thing said. It belongs to a conversation, to a turn, or to both.

    Attributes:
        turn_id: the turn that said it or was told it; None for what the caller brought along or added.
        position: its place in the conversation, or else in the turn; grows, may have gaps where something was erased.
        type: `message`, `function_call` or `function_call_output`.
        role: `system`, `developer`, `user`, `assistant` or `tool`; of a call `assistant`, of what it returned `tool`.
        text: of a message; the arguments of a call, as JSON; what it returned.
        parts: the lengths of the parts that the text came in; None for a text that came whole.
        name: of the function that is called, or has returned.
        call_id: what a call and its output have in common.
        status: `completed`, or `incomplete` for the end of an answer that was cut.
        answer: which of the turn's answers it is part of, from 0; None for what the model was told.
    """

    __tablename__ = "items"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("conversation_id", "position"),
        UniqueConstraint("tenant_id", "turn_id", "position"),
        ForeignKeyConstraint(
            ["tenant_id", "conversation_id"], ["conversations.tenant_id", "conversations.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["tenant_id", "turn_id"], ["turns.tenant_id", "turns.id"], ondelete="CASCADE"),
        CheckConstraint("conversation_id IS NOT NULL OR turn_id IS NOT NULL", name="owner"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    conversation_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    turn_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    position: Mapped[int]
    type: Mapped[str] = mapped_column(String(32))
    role: Mapped[str] = mapped_column(String(16))
    text: Mapped[str] = mapped_column(Text)
    parts: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    name: Mapped[str | None] = mapped_column(String(256))
    call_id: Mapped[str | None] = mapped_column(String(256))
    status: Mapped[str] = mapped_column(String(16), default="completed", server_default="completed")
    answer: Mapped[int | None]
    created_at: Mapped[datetime]
