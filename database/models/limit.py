"""Limits of a tenant and of its keys, and what is used of them."""

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from database.models.base import ID_LENGTH, Base, TenantOwned


class Limit(TenantOwned, Base):
    """What a tenant, or one of its keys, may use; None does not limit. Without a row there is no limit at all.

    What is used counts in calendar windows of UTC. Running turns count with all that they may become.

    Attributes:
        subject: a key's id, of a rotation the first one's; the tenant's own id for all of its keys together.
        minute, day, month: the windows that the next columns are about: minutes and days since 1970, months since 0.
        running: turns that have begun and not ended.
    """

    __tablename__ = "limits"

    tenant_id: Mapped[str] = mapped_column(String(ID_LENGTH), ForeignKey("tenants.id"), primary_key=True)
    subject: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    requests_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    turns_at_once: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_day: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_month: Mapped[int | None] = mapped_column(BigInteger)
    minute: Mapped[int] = mapped_column(default=0)
    minute_requests: Mapped[int] = mapped_column(BigInteger, default=0)
    minute_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    day: Mapped[int] = mapped_column(default=0)
    day_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    month: Mapped[int] = mapped_column(default=0)
    month_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    running: Mapped[int] = mapped_column(default=0)
