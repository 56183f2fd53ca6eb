"""Requests of `/v1/chat/completions`: what is honoured, and what is accepted because it changes nothing."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationInfo, field_validator, model_validator

from schemas.completion_message_schema import CompletionMessage
from schemas.metadata import Metadata
from schemas.sampling_schema import SamplingFields
from schemas.text import Name, Text
from schemas.tool_schema import AnyToolChoice, JsonObject, ToolChoice, ToolEntry

_STRICT = ConfigDict(extra="forbid", strict=True)


class StreamOptions(BaseModel):
    """What a stream tells besides; it is never obfuscated."""

    model_config = _STRICT

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class NamedSchema(BaseModel):
    """A JSON schema; an answer keeps to it, `strict` or not."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    name: Name
    description: Text | None = None
    json_schema: JsonObject | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """What an answer has to be: any text, any JSON object, or JSON that a schema allows."""

    model_config = _STRICT

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema belongs to the type json_schema, and has to be there")
        return self


# What has an effect only beside another field, which stands before it.
_NEEDS = {"top_logprobs": "logprobs", "stream_options": "stream", "tool_choice": "tools"}

_QUESTION: JsonValue = {"role": "user", "content": "What is the capital of France?"}
_EXAMPLES: list[JsonValue] = [{"model": "chatglm3-6b", "messages": [_QUESTION], "max_tokens": 100}]


class CompletionRequest(SamplingFields):
    """A conversation, and how to go on with it."""

    model_config = ConfigDict(json_schema_extra={"examples": _EXAMPLES})

    messages: list[CompletionMessage] = Field(min_length=1)
    model: Name
    max_tokens: int | None = Field(None, ge=1, description="The older name of max_completion_tokens.")
    max_completion_tokens: int | None = Field(None, ge=1, description="New tokens of each answer at the most.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[ToolEntry] | None = Field(None, max_length=128)
    tool_choice: AnyToolChoice | None = None
    parallel_tool_calls: bool | None = Field(None, description="False ends an answer after its first call.")
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = Field(
        None,
        description="True keeps all messages, to be had by the answer's id; false only numbers; null the last message "
        "and the answer in the log, if the tenant's policy does not forbid it.",
    )
    metadata: Metadata | None = Field(None, description="Labels of your own, kept with the turn.")
    user: Name | None = Field(None, description="The end user, for filters and erasure.")
    service_tier: Literal["auto", "default"] | None = Field(None, description="Changes nothing.")
    prompt_cache_key: Text | None = Field(None, description="Changes nothing: prefixes are found by themselves.")
    safety_identifier: Text | None = Field(None, description="Changes nothing.")
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = Field(
        None, description="Answers are text."
    )

    @field_validator("max_completion_tokens")
    @classmethod
    def _agrees_with_max_tokens(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("max_tokens") not in {None, value}:
            raise ValueError("cannot differ from max_tokens, its older name")
        return value

    @field_validator("top_logprobs", "stream_options", "tool_choice")
    @classmethod
    def _has_what_it_needs(cls, value: Any, info: ValidationInfo) -> Any:
        needed = _NEEDS[info.field_name or ""]
        says_nothing = value is None or (isinstance(value, ToolChoice) and value.type in {"none", "auto"})
        if not says_nothing and not info.data.get(needed):
            raise ValueError(f"needs {needed}")
        return value
