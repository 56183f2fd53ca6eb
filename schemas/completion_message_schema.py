"""Messages of `/v1/chat/completions`, as they are sent."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, field_validator, model_validator

from schemas.parted_text import PartedText, parted
from schemas.text import Name
from schemas.tool_schema import ToolCallEntry, writable


def _text_of(part: Any) -> str:
    match part:
        case {"type": "text", "text": str(text)} if len(part) == 2:
            return text
        case _:
            raise ValueError("must be text, or parts of the type text")


class TextPart(BaseModel):
    """A part of a message's text."""

    type: Literal["text"]
    text: str


Content = Annotated[
    PartedText, PlainValidator(lambda value: parted(value, _text_of), json_schema_input_type=str | list[TextPart])
]


class CompletionMessage(BaseModel):
    """One message of a conversation.

    `developer` is `system`. `name` is a tool's, beside its result. The fields that are always null are those that an
    answer holds and that clients send back with it.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: list[ToolCallEntry] | None = Field(None, max_length=128)
    tool_call_id: Name | None = None
    name: Name | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @field_validator("tool_calls")
    @classmethod
    def _has_arguments(cls, calls: list[ToolCallEntry] | None) -> list[ToolCallEntry] | None:
        for call in calls or []:
            try:
                arguments = json.loads(call.function.arguments)
            except (ValueError, RecursionError) as error:
                raise ValueError("has arguments that are not JSON") from error
            match arguments:
                case dict():
                    writable(arguments)
                case _:
                    raise ValueError("has arguments that are not a JSON object")
        return calls

    @model_validator(mode="after")
    def _is_whole(self) -> "CompletionMessage":
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("content may be null beside tool calls only")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only the assistant has tool_calls")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("tool_call_id belongs to the result of a tool, and to nothing else")
        if self.name is not None and self.role != "tool":
            raise ValueError("name: the models know no names of those who speak")
        return self
