"""The prompt/response log: what a turn asked and answered; apart from its numbers, since it may be kept less long."""

from sqlalchemy import ForeignKeyConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from database.models.base import ID_LENGTH, Base, TenantOwned


class TurnText(TenantOwned, Base):
    """The last user text of a turn and the response, as far as it came."""

    __tablename__ = "turn_texts"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "turn_id"], ["turns.tenant_id", "turns.id"], ondelete="CASCADE"),
    )

    turn_id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    prompt: Mapped[str] = mapped_column(Text)
    response: Mapped[str] = mapped_column(Text, default="")
