"""Requests and answers of `/v1/completions`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationInfo, field_validator

from schemas.completion_request_schema import StreamOptions
from schemas.completion_schema import CompletionUsage
from schemas.sampling_schema import SamplingFields, StopStrings
from schemas.text import Name, printable

# As many as the engine's queue holds by default: each is a turn of its own, and all of them begin together.
MOST_PROMPTS = 64
_MOST_ANSWERS = 128


def _listed(value: Any) -> Any:
    """A list of prompts, whatever they are, of one or of several; what is neither is refused."""
    if isinstance(value, str):
        return [printable(value)]
    if not isinstance(value, list) or not value:
        raise ValueError("must be a text, token ids, or a list of either")
    if all(isinstance(each, str) for each in value):
        return [printable(each) for each in value]
    prompts = value if isinstance(value[0], list) else [value]
    for prompt in prompts:
        if not isinstance(prompt, list) or not all(type(token) is int and token >= 0 for token in prompt):
            raise ValueError("must be a text, token ids, or a list of either")
    return prompts


Prompts = Annotated[
    list[str] | list[list[int]],
    Field(max_length=MOST_PROMPTS),
    BeforeValidator(_listed, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]


_EXAMPLES: list[JsonValue] = [{"model": "chatglm3-6b", "prompt": "The capital of France is", "max_tokens": 8}]


class TextCompletionRequest(SamplingFields):
    """Texts, and how to go on with them."""

    model_config = ConfigDict(json_schema_extra={"examples": _EXAMPLES})

    model: Name
    prompt: Prompts = Field(description="Texts or token ids, up to 64 of them; each is a turn of its own.")
    # Evaluation tasks have more of them than OpenAI takes.
    stop: Annotated[StopStrings, Field(max_length=16)] | None = None
    suffix: Literal[""] | None = Field(None, description="The models have not learned to fill gaps.")
    best_of: int | None = Field(None, ge=1, description="The same as n: all answers are given.")
    echo: bool | None = Field(None, description="Give each answer behind its prompt.")
    max_tokens: int | None = Field(None, ge=0, description="New tokens of each answer, 16 by default; 0 beside echo.")
    logprobs: int | None = Field(None, ge=0, le=5, description="Alternatives to each token; with echo, of prompts too.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: Literal[False] | None = Field(
        None, description="False keeps only numbers; by default what the tenant's policy says."
    )
    user: Name | None = Field(None, description="The end user, for filters and erasure.")

    @field_validator("prompt")
    @classmethod
    def _has_so_many_answers(cls, value: Prompts, info: ValidationInfo) -> Prompts:
        if len(value) * (info.data.get("n") or 1) > _MOST_ANSWERS:
            raise ValueError(f"times n, there may be {_MOST_ANSWERS} answers at the most")
        return value

    @field_validator("best_of")
    @classmethod
    def _is_n(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value != (info.data.get("n") or 1):
            raise ValueError("must be n: answers are not chosen from more")
        return value

    @field_validator("max_tokens")
    @classmethod
    def _leaves_something(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value == 0 and not info.data.get("echo"):
            raise ValueError("may be 0 beside echo only")
        return value

    @field_validator("stream_options")
    @classmethod
    def _needs_stream(cls, value: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if value is not None and not info.data.get("stream"):
            raise ValueError("needs stream")
        return value


class TextLogprobs(BaseModel):
    r"""Of each token: its text, natural logarithms of probabilities as the model gave them, and where it begins.

    `bytes:\x…` names what is not whole characters. Of a prompt's first token nothing is known.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One answer, behind its prompt if that is echoed."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: str


class TextCompletion(BaseModel):
    """All answers, whole, prompt by prompt. `created` is in seconds since 1970."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: CompletionUsage
    system_fingerprint: None = None
