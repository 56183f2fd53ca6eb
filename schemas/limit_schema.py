"""Limits, as administrators see and set them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Count = Annotated[int, Field(ge=0, le=2**53)]


class LimitsWanted(BaseModel):
    """All limits of a tenant or a key: what is not named is not limited; 0 allows nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    requests_per_minute: _Count | None = None
    tokens_per_minute: _Count | None = None
    turns_at_once: _Count | None = None
    tokens_per_day: _Count | None = None
    tokens_per_month: _Count | None = None


class LimitsView(LimitsWanted):
    """Limits of a key, or with `key` null those of the tenant as a whole; and what is used of them.

    Minutes, days and months are the calendar's, in UTC; turns that run count with all that they may become.
    """

    key: str | None = Field(description="Of a rotation, the newest.")
    keys: list[str] = Field(description="All keys of a rotation, oldest first: they share these limits, as one budget.")
    requests_used_this_minute: int
    tokens_used_this_minute: int
    tokens_used_this_day: int
    tokens_used_this_month: int
    running: int = Field(description="How many turns are running.")


class LimitsList(BaseModel):
    """The limits of a tenant and of its keys, as far as any were set."""

    data: list[LimitsView]
