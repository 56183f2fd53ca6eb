"""What is said to `/v1/responses`: messages, calls of functions and what these returned."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PlainValidator, Tag, field_validator

from schemas.parted_text import PartedText, parted
from schemas.text import Name, Text
from schemas.tool_schema import writable

_STRICT = ConfigDict(extra="forbid", strict=True)
_TEXTS = {"input_text", "output_text", "text"}
# What a part of an answer has besides its text, and clients send back with it.
_BESIDE = {"type", "text", "annotations", "logprobs"}


def _text_of(part: Any) -> str:
    match part:
        case {"type": str(kind)} if kind not in _TEXTS:
            raise ValueError(f"holds {kind!r}: the model reads text only")
        case {"type": str(), "text": str(text)} if part.keys() <= _BESIDE:
            return text
        case _:
            raise ValueError("must be text, or parts of the type input_text or output_text")


class ContentPart(BaseModel):
    """A part of a message's text."""

    type: Literal["input_text", "output_text"]
    text: str


_Content = Annotated[
    PartedText,
    PlainValidator(lambda value: parted(value, _text_of), json_schema_input_type=str | list[ContentPart]),
]
_Status = Literal["in_progress", "completed", "incomplete"]


class MessageItem(BaseModel):
    """A message. `id` and `status` are those of an answer that is sent back, and change nothing."""

    model_config = _STRICT

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: _Content
    id: Name | None = None
    status: _Status | None = None
    phase: None = None


class FunctionCallItem(BaseModel):
    """A call that the model has asked for. `arguments` is a JSON object, as text."""

    model_config = _STRICT

    type: Literal["function_call"]
    call_id: Name
    name: Name
    arguments: Annotated[Text, Field(max_length=1 << 20)]
    id: Name | None = None
    status: _Status | None = None
    caller: None = None
    namespace: None = None

    @field_validator("arguments")
    @classmethod
    def _is_an_object(cls, arguments: str) -> str:
        try:
            value = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise ValueError("is not JSON") from error
        if not isinstance(value, dict):
            raise ValueError("is not a JSON object")  # noqa: TRY004 - how validators refuse
        writable(value)
        return arguments


class FunctionOutputItem(BaseModel):
    """What a called function has returned."""

    model_config = _STRICT

    type: Literal["function_call_output"]
    call_id: Name
    output: _Content
    id: Name | None = None
    status: _Status | None = None
    name: None = None


class ItemReference(BaseModel):
    """An item that is stored, by its id."""

    model_config = _STRICT

    type: Literal["item_reference"] | None = None
    id: Name


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    if isinstance(value, dict) and kind is None:
        return "item_reference" if value.keys() == {"id"} else "message"
    return str(kind)


def _known(value: Any) -> Any:
    """Raises ValueError for an item of a kind that there is not."""
    if not isinstance(value, dict):
        raise ValueError("must be an object")  # noqa: TRY004 - how validators refuse
    if (kind := _kind(value)) not in _KINDS:
        raise ValueError(f"there are no items of the type {kind!r} here: {', '.join(_KINDS)}")
    return value


_KINDS = ("message", "function_call", "function_call_output", "item_reference")
InputItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[ItemReference, Tag("item_reference")],
    Discriminator(_kind),
    BeforeValidator(_known),
]


def _itemised(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


# A text alone is what the user says.
Input = Annotated[
    list[InputItem], Field(min_length=1), BeforeValidator(_itemised, json_schema_input_type=str | list[InputItem])
]
