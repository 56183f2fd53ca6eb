"""Erasing, and what it reports."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.text import Name


class UserQuery(BaseModel):
    """Whose conversations and turns."""

    model_config = ConfigDict(extra="forbid")

    user: Name = Field(description="The end user, as the requests named it.")


class ErasureReport(BaseModel):
    """What was erased, for good: rows by table. `id` is null for a user, who has only a name, and a purge."""

    id: str | None = None
    deleted: Literal[True] = True
    rows: dict[str, int]
