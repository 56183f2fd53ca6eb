"""Requests and answers of the routes to stored completions."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, StringConstraints, model_serializer

from schemas.completion_message_schema import TextPart
from schemas.metadata import MetadataFilter
from schemas.page_schema import Listed
from schemas.text import Name
from schemas.tool_schema import ToolCallEntry
from schemas.wire_id import CompletionId

Order = Literal["asc", "desc"]


class CompletionQuery(MetadataFilter):
    """What to list."""

    model: Name | None = None
    after: CompletionId | None = Field(None, description="`last_id` of the page before.")
    limit: int = Field(20, ge=1, le=100)
    order: Order = Field("asc", description="By the time they were made.")


class MessageQuery(BaseModel):
    """Which page of a completion's messages."""

    model_config = ConfigDict(extra="forbid")

    after: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="`last_id` of the page before."
    )
    limit: int = Field(20, ge=1, le=100)
    order: Order = "asc"


class DeletedCompletion(BaseModel):
    """What was erased, for good."""

    id: str
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"
    deleted: Literal[True] = True


class StoredMessage(Listed):
    """A message that the model was told. `content_parts` is null for a content that came whole."""

    role: str
    content: str | None
    content_parts: list[TextPart] | None = None
    tool_calls: list[ToolCallEntry] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = serialize(self)
        # Clients look whether these are there.
        optional = {"tool_calls", "tool_call_id", "name"}
        return {name: value for name, value in written.items() if value is not None or name not in optional}
