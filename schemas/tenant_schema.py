"""Tenants, as administrators see and change them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.page_schema import Listed
from schemas.text import Text

_Days = Annotated[int, Field(ge=1, le=36_500)]
_Places = Annotated[int, Field(ge=1, le=1_000_000)]
_KEEPS_CONTENT = "Whether prompts and answers are stored, or only their numbers."
_TURN_DAYS = "Turns are deleted so long after they began; null keeps them."
_CONVERSATION_DAYS = "Conversations are deleted so long after their last turn began; null keeps them."
_MAX_PLACES = "Places of the engine's queue, running and waiting, that it may hold at once; null for no ceiling."


class TenantChange(BaseModel):
    """What to change; the rest stays. A new content policy holds for new turns, the two clocks also for old ones."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # Defaults mean unset and never reach the database, so that null is refused where it has no meaning.
    name: Text = Field(default_factory=str, min_length=1)
    keeps_content: bool = Field(default=True, description=_KEEPS_CONTENT)
    turn_days: _Days | None = Field(None, description=_TURN_DAYS)
    conversation_days: _Days | None = Field(None, description=_CONVERSATION_DAYS)
    max_places: _Places | None = Field(None, description=_MAX_PLACES)
    weight: float = Field(1.0, ge=0.01, le=100, description="Its part of the engine when others want it too.")


class NewTenant(TenantChange):
    """A tenant to make. It needs a key next."""

    name: Text


class TenantView(Listed):
    """A tenant. `administers`: its keys, and no others, may have the scope `admin`."""

    model_config = ConfigDict(from_attributes=True)

    object: Literal["tenant"] = "tenant"
    name: str
    administers: bool
    keeps_content: bool
    turn_days: int | None
    conversation_days: int | None
    weight: float
    max_places: int | None
    created_at: datetime
    suspended_at: datetime | None
