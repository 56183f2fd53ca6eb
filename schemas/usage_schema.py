"""Requests and answers of the usage route."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.text import Id, Name
from schemas.time import Day


class UsageQuery(BaseModel):
    """What to add up. Days are UTC's, both included."""

    model_config = ConfigDict(extra="forbid")

    since: Day | None = Field(None, description="By default 30 days before `until`.")
    until: Day | None = Field(None, description="By default today.")
    key: Id | None = Field(None, description="The id of an API key.")
    model: Name | None = None
    group_by: list[Literal["day", "key", "model"]] = Field(
        default=["day", "key", "model"], min_length=1, max_length=3, description="Repeat for several."
    )
    format: Literal["json", "csv"] | None = Field(None, description="By default as `Accept` says, else JSON.")


class UsageRow(BaseModel):
    """Sums over turns that have ended, and means over those that were completed, in milliseconds."""

    day: date | None = None
    key: str | None = None
    model: str | None = None
    requests: int
    cancelled: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    total_tokens: int
    first_token_ms: float | None
    duration_ms: float | None


class UsageList(BaseModel):
    """Rows in the order of what they are grouped by; what they are not grouped by is null."""

    object: Literal["list"] = "list"
    since: date
    until: date
    data: list[UsageRow]


class TenantsUsageQuery(UsageQuery):
    """The same of all tenants, or of one."""

    tenant_id: Id | None = None


class TenantsUsageRow(UsageRow):
    """Sums of one tenant."""

    tenant: str


class TenantsUsageList(BaseModel):
    """Rows of one tenant after another, by name."""

    object: Literal["list"] = "list"
    since: date
    until: date
    data: list[TenantsUsageRow]
