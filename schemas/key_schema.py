"""API keys, as administrators see and change them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.page_schema import Listed
from schemas.text import Name, Text
from schemas.time import UtcTime

_Scope = Literal["chat", "history:read", "history:delete", "admin"]
_Models = Annotated[list[Name], Field(min_length=1, max_length=100)]
_MODELS = "The models it may use, by the names clients see; null for all."
_LONGEST_OVERLAP_HOURS = 24 * 366


class KeyChange(BaseModel):
    """What to change; the rest stays."""

    model_config = ConfigDict(extra="forbid")

    # A default means unset and never reaches the database, so that null is refused where it has no meaning.
    name: Text = ""
    models: _Models | None = Field(None, description=_MODELS)
    expires_at: UtcTime | None = Field(None, description="Until when it is let in, with an offset; null for ever.")


class NewKeyRequest(KeyChange):
    """A key to make."""

    scopes: Annotated[list[_Scope], Field(min_length=1)] | None = Field(
        None, description="By default all but `admin`; of the administrators, `admin` alone."
    )


class Rotation(BaseModel):
    """How to replace a key."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overlap_hours: int = Field(
        24, ge=0, le=_LONGEST_OVERLAP_HOURS, description="For how long the old key is still let in."
    )


class KeyView(Listed):
    """A key, by what may be shown of it."""

    model_config = ConfigDict(from_attributes=True)

    object: Literal["tenant.api_key"] = "tenant.api_key"
    tenant_id: str
    name: str
    prefix: str
    scopes: list[str]
    models: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaced_by: str | None


class MadeKey(KeyView):
    """A key just made: `key` is shown now and never again."""

    key: str
