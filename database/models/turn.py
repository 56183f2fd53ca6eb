"""Turns: one request to the model each; numbers and states, no text."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKeyConstraint, Index, String, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from database.models.base import ID_LENGTH, Base, TenantOwned


class TurnStatus(StrEnum):
    """A turn runs, then ends in exactly one of the other states, once."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


_STATES = ", ".join(f"'{status}'" for status in TurnStatus)


class Turn(TenantOwned, Base):
    """One request to the model and what became of it.

    Attributes:
        id: also the `message_id` of `/chat`.
        endpoint: the route that made it.
        parameters: what the caller set, by the names of the request.
        labels: the caller's own, which OpenAI calls metadata.
        stored: whether it is there by its id, with all that the model was told.
        previous_id: the stored response that this one goes on from, which may have been erased since.
        finish_reason: `stop`, `length` or `tool_calls`, of a completed turn's first answer.
        error: stable code, of a failed turn.
        reserved_tokens: what limits were charged when it began: its prompt and all that it might say.
        reserved_at: the time whose minute, day and month that was.
        dropped_turns: how many of the conversation's oldest turns did not fit into the prompt.
    """

    __tablename__ = "turns"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        ForeignKeyConstraint(
            ["tenant_id", "conversation_id"], ["conversations.tenant_id", "conversations.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["tenant_id", "key_id"], ["api_keys.tenant_id", "api_keys.id"]),
        CheckConstraint(f"status IN ({_STATES})", name="status"),
        CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="finished"),
        Index(
            "uq_turns_running",
            "tenant_id",
            "conversation_id",
            unique=True,
            sqlite_where=text("status = 'running'"),
            postgresql_where=text("status = 'running'"),
        ),
        Index(
            "ix_turns_stored",
            "tenant_id",
            "endpoint",
            "id",
            sqlite_where=text("stored"),
            postgresql_where=text("stored"),
        ),
        Index(None, "tenant_id", "conversation_id", "id"),
        Index(None, "tenant_id", "user", "id"),
        Index(None, "tenant_id", "key_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    conversation_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    key_id: Mapped[str] = mapped_column(String(ID_LENGTH))
    user: Mapped[str | None] = mapped_column(String(256))
    endpoint: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(256))
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    labels: Mapped[dict[str, str]] = mapped_column(JSON, default=dict, server_default="{}")
    stored: Mapped[bool] = mapped_column(default=False, server_default=false())
    status: Mapped[str] = mapped_column(String(16))
    previous_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    finish_reason: Mapped[str | None] = mapped_column(String(32))
    error: Mapped[str | None] = mapped_column(String(64))
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int] = mapped_column(default=0)
    completion_tokens: Mapped[int] = mapped_column(default=0)
    reserved_tokens: Mapped[int] = mapped_column(default=0, server_default="0")
    reserved_at: Mapped[datetime | None]
    dropped_turns: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    first_token_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
