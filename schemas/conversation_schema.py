"""Requests and answers of `/v1/conversations`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.metadata import Metadata, MetadataFilter
from schemas.page_schema import Listed
from schemas.response_item_schema import InputItem, ItemReference
from schemas.stored_completion_schema import Order
from schemas.text import Name, Text
from schemas.time import Time
from schemas.wire_id import ConversationId, ItemId

_STRICT = ConfigDict(extra="forbid", strict=True)
_MOST_ITEMS = 20


def _whole(item: InputItem) -> InputItem:
    if isinstance(item, ItemReference):
        raise ValueError("is added as a whole, not by its id")  # noqa: TRY004 - how validators refuse
    return item


AddedItem = Annotated[InputItem, AfterValidator(_whole)]


class NewConversation(BaseModel):
    """What a conversation begins with. Items get ids of their own."""

    model_config = _STRICT

    items: list[AddedItem] | None = Field(None, max_length=_MOST_ITEMS)
    metadata: Metadata | None = Field(None, description="Labels of your own.")
    user: Name | None = Field(None, description="The end user, for filters and erasure; OpenAI has no such field.")


class NewItems(BaseModel):
    """What has been said after all that is there. Items get ids of their own."""

    model_config = _STRICT

    items: list[AddedItem] = Field(min_length=1, max_length=_MOST_ITEMS)


class ConversationQuery(MetadataFilter):
    """What to list. Times without an offset are in the service's zone; `since` is included, `until` is not."""

    user: Name | None = None
    since: Time | None = None
    until: Time | None = None
    q: Text | None = Field(
        None, min_length=1, max_length=1000, description="Part of what was said, in any case; a page may be short."
    )
    after: ConversationId | None = Field(None, description="`last_id` of the page before.")
    limit: int = Field(20, ge=1, le=100)
    order: Order = Field("desc", description="`desc`: the last one that was made first.")


class IncludeQuery(BaseModel):
    """What to show besides: of all that there may be, nothing that items here have."""

    model_config = ConfigDict(extra="forbid")

    include: list[
        Literal[
            "code_interpreter_call.outputs",
            "computer_call_output.output.image_url",
            "file_search_call.results",
            "message.input_image.image_url",
            "reasoning.encrypted_content",
            "web_search_call.action.sources",
            "web_search_call.results",
        ]
    ] = Field([], alias="include[]", description="Changes nothing: there are no such items.")


class ItemQuery(IncludeQuery):
    """Which page of a conversation's items."""

    after: ItemId | None = Field(None, description="`last_id` of the page before.")
    limit: int = Field(20, ge=1, le=100)
    order: Order = Field("desc", description="`desc`: the last one first.")


class ConversationView(Listed):
    """A conversation. `created_at` is in seconds since 1970."""

    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: dict[str, str]
    user: str | None


class DeletedConversation(BaseModel):
    """What was erased, with all that was said in it, for good."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: Literal[True] = True
