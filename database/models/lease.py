"""Leases: which process answers for a running turn. Global, no content: recovery needs no view of all tenants."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from database.models.base import ID_LENGTH, Base


class Lease(Base):
    """A running turn's lease. Expired, or left by an owner known to be dead, its turn is settled as interrupted.

    Attributes:
        turn_id: no foreign key: a lease must not need the right to read turns.
        owner: the instance that runs the turn.
        heard_at: when somebody last listened to the turn through another instance.
        stopped_at: when another instance was asked to cancel it; the owner does.
    """

    __tablename__ = "leases"

    turn_id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(ID_LENGTH), ForeignKey("tenants.id"))
    owner: Mapped[str] = mapped_column(String(ID_LENGTH), index=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    heard_at: Mapped[datetime | None]
    stopped_at: Mapped[datetime | None]
