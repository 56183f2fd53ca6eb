"""API keys: what a caller shows. Global, no content: the tenant is not known before the key is."""

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from database.models.base import ID_LENGTH, Base


class ApiKey(Base):
    """One key. Only its HMAC is kept, found by equality, so that no comparison can leak it.

    Attributes:
        prefix: the first characters of the key, for people to tell keys apart.
        hash: HMAC-SHA256 of the key under the pepper, hex.
        pepper_id: which pepper made the hash.
        scopes: what the key may do.
        models: the models it may use, by the names clients see; None for all.
        last_used_at: when it was last let in, to the minute.
        replaced_by: the key that was made of it by rotation.
        limit_subject: of a key that was made by rotation, the first one of these, whose limits it shares; else None.
    """

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "tenant_id", "id", unique=True),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(ID_LENGTH), ForeignKey("tenants.id"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    prefix: Mapped[str] = mapped_column(String(16))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    pepper_id: Mapped[str] = mapped_column(String(16))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    models: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    last_used_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    limit_subject: Mapped[str | None] = mapped_column(String(ID_LENGTH))
