"""The text of resumable turns while they run, in pieces: what a listener on another replica reads."""

from sqlalchemy import ForeignKey, ForeignKeyConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from database.models.base import ID_LENGTH, Base, TenantOwned


class TurnChunk(TenantOwned, Base):
    """A piece of what a turn has said so far. When the turn ends, its stored answer takes the place of all of them.

    Attributes:
        position: where in the text it begins, in Unicode code points.
    """

    __tablename__ = "turn_chunks"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "turn_id"], ["turns.tenant_id", "turns.id"], ondelete="CASCADE"),
    )

    tenant_id: Mapped[str] = mapped_column(String(ID_LENGTH), ForeignKey("tenants.id"), primary_key=True)
    turn_id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(Text)
