"""Erasing, and what it reports."""

from pydantic import BaseModel, ConfigDict, Field

from schemas.text import Name


class UserQuery(BaseModel):
    """Whose conversations and turns."""

    model_config = ConfigDict(extra="forbid")

    user: Name = Field(description="The end user, as the requests named it.")


class Rehearsal(BaseModel):
    """Whether to look first at what would go."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = Field(default=False, description="Count the rows by table, and delete nothing.")


class RehearsedUserQuery(UserQuery, Rehearsal):
    """Whose conversations and turns, and whether to look first."""


class ErasureReport(BaseModel):
    """What was erased, for good: rows by table. `id` is null for a user, who has only a name, and a purge.

    `deleted` is false where the rows were only counted.
    """

    id: str | None = None
    deleted: bool = True
    rows: dict[str, int]
