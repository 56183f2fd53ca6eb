"""Answers of `/v1/chat/completions`."""

from typing import Any, Literal

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from schemas.page_schema import Listed
from schemas.tool_schema import ToolCallEntry


class TopLogprob(BaseModel):
    """A token that could have stood there. `bytes` is null for a special token."""

    token: str
    bytes: list[int] | None
    logprob: float


class TokenLogprob(TopLogprob):
    """A token that stands there."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    """Natural logarithms of probabilities, as the model gave them."""

    content: list[TokenLogprob]
    refusal: None = None


class AssistantMessage(BaseModel):
    """What the model says; without `tool_calls` where there are none."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCallEntry] | None = None

    @model_serializer(mode="wrap")
    def _without_null_calls(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = serialize(self)
        if self.tool_calls is None:
            # Clients look whether the field is there.
            del written["tool_calls"]
        return written


class CompletionChoice(BaseModel):
    """One answer."""

    index: int
    message: AssistantMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: str


class PromptTokensDetails(BaseModel):
    """`cached_tokens` were not computed again."""

    cached_tokens: int


class CompletionUsage(BaseModel):
    """Tokens of the prompt, and of all answers together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ChatCompletion(Listed):
    """All answers, whole. `created` is in seconds since 1970; log-probabilities are not stored."""

    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage
    system_fingerprint: None = None
    metadata: dict[str, str]
