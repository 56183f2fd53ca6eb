"""Requests of `/v1/responses`: what is honoured, and what is accepted because it changes nothing."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from schemas.metadata import Metadata
from schemas.response_item_schema import Input
from schemas.text import Name, Text
from schemas.tool_schema import FunctionTool, JsonObject

_STRICT = ConfigDict(extra="forbid", strict=True)
_LOGPROBS = "message.output_text.logprobs"


def _function(value: Any) -> Any:
    match value:
        case {"type": str(kind)} if kind != "function":
            raise ValueError(f"there is no {kind!r} here: tools are functions, which the caller runs")
    return value


class ResponseTool(FunctionTool):
    """A function that the caller can run."""

    type: Literal["function"]


class ResponseToolChoiceObject(BaseModel):
    """How free the model is: on the wire `auto`, `none` or `required`, or this object for one function."""

    model_config = _STRICT

    type: Literal["auto", "none", "required", "function"]
    name: Name | None = None

    @model_validator(mode="after")
    def _names_what_it_has_to(self) -> "ResponseToolChoiceObject":
        if (self.type == "function") != (self.name is not None):
            raise ValueError("must be 'auto', 'none', 'required', or a function with its name")
        return self

    @model_serializer(mode="wrap")
    def _as_it_was_sent(self, serialize: SerializerFunctionWrapHandler) -> Any:
        return serialize(self) if self.type == "function" else self.type


def _choice(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) and value != "function" else value


_Freedom = Literal["auto", "none", "required"]
ResponseToolChoice = Annotated[
    ResponseToolChoiceObject, BeforeValidator(_choice, json_schema_input_type=_Freedom | ResponseToolChoiceObject)
]


class TextFormat(BaseModel):
    """What the answer has to be: any text, any JSON object, or JSON that a schema allows, `strict` or not."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    description: Text | None = None
    json_schema: JsonObject | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> "TextFormat":
        if self.type == "json_schema" and (self.json_schema is None or self.name is None):
            raise ValueError("json_schema needs a name and a schema")
        if self.type != "json_schema" and self.model_fields_set - {"type"}:
            raise ValueError("only json_schema has a name and a schema")
        return self


class TextSettings(BaseModel):
    """How the answer is written."""

    model_config = _STRICT

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = Field(None, description="Changes nothing.")


class ResponseStreamOptions(BaseModel):
    """Streams are never obfuscated."""

    model_config = _STRICT

    include_obfuscation: Literal[False] | None = None


class ConversationObject(BaseModel):
    """A stored conversation: on the wire its id, or this object."""

    model_config = _STRICT

    id: Annotated[str, StringConstraints(pattern=r"^(conv_)?[0-9a-f]{32}$")]


def _named(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


_EXAMPLES: list[JsonValue] = [{"model": "chatglm3-6b", "input": "What is the capital of France?"}]


class ResponseInput(BaseModel):
    """What a prompt is made of."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": _EXAMPLES})

    input: Input
    instructions: Text | None = Field(None, description="Comes first, for this response alone.")
    tools: list[Annotated[ResponseTool, BeforeValidator(_function)]] | None = Field(None, max_length=128)
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = Field(None, description="False ends an answer after its first call.")
    text: TextSettings | None = None
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="`auto` leaves out the oldest of what does not fit into the model's context window."
    )
    previous_response_id: Name | None = Field(None, description="The stored response to go on from.")
    conversation: (
        Annotated[ConversationObject, BeforeValidator(_named, json_schema_input_type=str | ConversationObject)] | None
    ) = Field(None, description="The stored conversation to go on with; input and output become part of it.")
    reasoning: None = None

    @field_validator("conversation")
    @classmethod
    def _is_the_only_context(cls, value: ConversationObject | None, info: ValidationInfo) -> ConversationObject | None:
        if value is not None and info.data.get("previous_response_id") is not None:
            raise ValueError("cannot be given together with previous_response_id")
        return value


class TokensQuestion(ResponseInput):
    """What would be answered, to have its tokens counted."""

    model: Name | None = None


class ResponseRequest(ResponseInput):
    """Something said, and how to answer it."""

    model: Name
    max_output_tokens: int | None = Field(None, ge=1, description="New tokens at the most.")
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = Field(
        None, max_length=8, description="`reasoning.encrypted_content` changes nothing: there is no reasoning."
    )
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    store: bool | None = Field(None, description="Default true, unless the tenant's policy is to keep only numbers.")
    metadata: Metadata | None = Field(None, description="Labels of your own, kept with the response.")
    user: Name | None = Field(None, description="The end user, for filters and erasure.")
    background: bool | None = Field(
        None, description="Answer at once, and run on unheard; only without tools, and stored."
    )
    service_tier: Literal["auto", "default"] | None = Field(None, description="Changes nothing.")
    prompt_cache_key: Text | None = Field(None, description="Changes nothing: prefixes are found by themselves.")
    safety_identifier: Text | None = Field(None, description="Changes nothing.")
    max_tool_calls: None = None
    prompt: None = None

    @field_validator("top_logprobs")
    @classmethod
    def _has_log_probabilities(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and _LOGPROBS not in (info.data.get("include") or []):
            raise ValueError(f"needs {_LOGPROBS!r} in include")
        return value

    @field_validator("stream_options")
    @classmethod
    def _has_a_stream(cls, value: ResponseStreamOptions | None, info: ValidationInfo) -> ResponseStreamOptions | None:
        if value is not None and not info.data.get("stream"):
            raise ValueError("needs stream")
        return value

    @field_validator("background")
    @classmethod
    def _can_be_told_again(cls, value: bool | None, info: ValidationInfo) -> bool | None:  # noqa: FBT001
        if value and info.data.get("store") is False:
            raise ValueError("needs store: only what is kept can be read later")
        if value and _LOGPROBS in (info.data.get("include") or []):
            raise ValueError("cannot be given together with log-probabilities, which are not kept")
        return value

    @property
    def wants_logprobs(self) -> bool:
        """Whether log-probabilities are asked for."""
        return _LOGPROBS in (self.include or [])
