"""Tenants: who shares the service. Global, no content."""

from datetime import datetime

from sqlalchemy import Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from database.models.base import ID_LENGTH, Base


class Tenant(Base):
    """One tenant: everything that is said belongs to exactly one.

    Attributes:
        administers: the one tenant whose keys may have the scope `admin`.
        suspended_at: since when its keys are refused.
        keeps_content: whether prompts and answers are stored, or only their numbers.
        turn_days: how long a turn is kept after it was made; None for ever.
        conversation_days: how long a conversation is kept after its last turn began; None for ever.
        weight: its part of the engine when others want it too, above 0.
        max_places: places of the engine's queue, running and waiting together, that it may hold; None for no ceiling.
    """

    __tablename__ = "tenants"
    __table_args__ = (
        Index(
            "uq_tenants_administers",
            "administers",
            unique=True,
            sqlite_where=text("administers"),
            postgresql_where=text("administers"),
        ),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    created_at: Mapped[datetime]
    administers: Mapped[bool] = mapped_column(default=False)
    suspended_at: Mapped[datetime | None]
    keeps_content: Mapped[bool] = mapped_column(default=True)
    turn_days: Mapped[int | None]
    conversation_days: Mapped[int | None]
    weight: Mapped[float] = mapped_column(default=1.0, server_default="1")
    max_places: Mapped[int | None]
