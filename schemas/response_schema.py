"""Answers of `/v1/responses`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from schemas.response_request_schema import (
    ResponseTool,
    ResponseToolChoice,
    ResponseToolChoiceObject,
    TextFormat,
    TextSettings,
)
from schemas.text import Name

ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class TopTextLogprob(BaseModel):
    """A token that could have stood there. `bytes` is empty for a special token."""

    token: str
    bytes: list[int]
    logprob: float


class TextLogprob(TopTextLogprob):
    """A token that stands there."""

    top_logprobs: list[TopTextLogprob]


class OutputText(BaseModel):
    """What was said; its log-probabilities, if they were asked for."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = Field(max_length=0, default=[])
    logprobs: list[TextLogprob] = []


class OutputMessage(BaseModel):
    """What the model says."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: ItemStatus
    content: list[OutputText]


class OutputCall(BaseModel):
    """What the model wants to have called; `arguments` is a JSON object, as text."""

    id: str
    type: Literal["function_call"] = "function_call"
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


OutputItem = OutputMessage | OutputCall


class InputTokensDetails(BaseModel):
    """`cached_tokens` were not computed again."""

    cached_tokens: int
    cache_write_tokens: Literal[0] = 0


class OutputTokensDetails(BaseModel):
    """The models do not think aloud."""

    reasoning_tokens: Literal[0] = 0


class ResponseUsage(BaseModel):
    """Tokens of prompt and answer."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int


class IncompleteDetails(BaseModel):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens"]


class ResponseFailure(BaseModel):
    """Why there is no answer."""

    code: str
    message: str


class ConversationName(BaseModel):
    """The conversation that a response belongs to."""

    id: str


class ResponseObject(BaseModel):
    """A response. Times are in seconds since 1970."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: ResponseStatus = "in_progress"
    error: ResponseFailure | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: list[OutputItem] = []
    usage: ResponseUsage | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: ConversationName | None = None
    background: bool = False
    store: bool
    max_output_tokens: int | None = None
    max_tool_calls: None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_logprobs: int = 0
    truncation: Literal["auto", "disabled"] = "disabled"
    parallel_tool_calls: bool = True
    tool_choice: ResponseToolChoice = Field(ResponseToolChoiceObject(type="auto"))
    tools: list[ResponseTool] = []
    text: TextSettings = TextSettings(format=TextFormat(type="text"))
    reasoning: None = None
    service_tier: Literal["default"] = "default"
    metadata: dict[str, str]
    user: str | None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class ResponseQuery(BaseModel):
    """Whether to listen to a background response instead of being shown it, and from which event on."""

    model_config = ConfigDict(extra="forbid")

    stream: bool = False
    starting_after: int | None = Field(None, ge=0, description="The last event's number that is not wanted again.")

    @field_validator("starting_after")
    @classmethod
    def _has_a_stream(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("stream"):
            raise ValueError("needs stream")
        return value


class InputText(BaseModel):
    """What was said."""

    type: Literal["input_text"] = "input_text"
    text: str


class InputMessage(BaseModel):
    """What the model was told."""

    id: str
    type: Literal["message"] = "message"
    role: str
    status: ItemStatus = "completed"
    content: list[InputText | OutputText]


class InputCallOutput(BaseModel):
    """What a called function returned."""

    id: str
    type: Literal["function_call_output"] = "function_call_output"
    status: ItemStatus = "completed"
    call_id: str
    output: str | list[InputText]


InputItemView = InputMessage | OutputCall | InputCallOutput


class InputItemPage(BaseModel):
    """One page. `after=last_id` brings the next, if `has_more`."""

    object: Literal["list"] = "list"
    data: list[InputItemView]
    first_id: str | None
    last_id: str | None
    has_more: bool


class InputItemQuery(BaseModel):
    """Which page."""

    model_config = ConfigDict(extra="forbid")

    after: Name | None = Field(None, description="`last_id` of the page before.")
    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = Field("desc", description="`desc`: the last one first.")


class DeletedResponse(BaseModel):
    """What was erased, for good."""

    id: str
    object: Literal["response.deleted"] = "response.deleted"
    deleted: Literal[True] = True


class InputTokens(BaseModel):
    """How many tokens the prompt would have."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int
