"""Requests and answers of the history routes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.text import Id, Name, Text
from schemas.time import Time


class HistoryQuery(BaseModel):
    """What to list. Times without an offset are in the service's zone; `since` is included, `until` is not."""

    model_config = ConfigDict(extra="forbid")

    conversation_id: Id | None = None
    user: Name | None = None
    key: Id | None = Field(None, description="The id of an API key.")
    since: Time | None = None
    until: Time | None = None
    q: Text | None = Field(
        None, min_length=1, max_length=1000, description="Part of a prompt or response, in any case."
    )
    status: Literal["running", "completed", "cancelled", "failed", "interrupted"] | None = None
    limit: int = Field(20, ge=1, le=100)
    after: Id | None = Field(None, description="`next` of the page before.")


class HistoryEntry(BaseModel):
    """One prompt/response pair, null where only numbers are kept.

    `time` is in the service's zone, `created_at` in UTC.
    """

    message_id: str
    conversation_id: str | None
    prompt: str | None
    response: str | None
    model: str
    status: str
    time: str
    created_at: str
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int


class HistoryList(BaseModel):
    """A page, newest first. `next` continues after it."""

    messages: list[HistoryEntry]
    has_more: bool
    next: str | None


class Erased(BaseModel):
    """What was erased, for good."""

    id: str
    deleted: Literal[True] = True
