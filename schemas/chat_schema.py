"""Requests and answers of `/chat/new/message/`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.text import Id, Name, Text


class HistoryMessage(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: Text


class NewMessage(BaseModel):
    """A prompt, and how to answer it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Annotated[Text, Field(min_length=1)]
    max_tokens: int | None = Field(None, ge=1, description="New tokens at the most.")
    temperature: float = Field(1.0, ge=0, le=2, allow_inf_nan=False, description="0 takes the most likely token.")
    top_p: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    history: list[HistoryMessage] | None = Field(
        None, description="What was said before; never together with conversation_id."
    )
    stream: bool | None = Field(None, description="Default false; with `Accept: text/event-stream`, one event.")
    background: bool = Field(
        default=False, description="Answer 202 at once; the turn runs on, and its events are those of `stream_url`."
    )
    conversation_id: Id | None = Field(
        None, description="Continue this stored conversation; without it a new one begins."
    )
    user: Name | None = Field(None, description="The end user, for filters and erasure.")
    store: bool | None = Field(
        None, description="False keeps only this turn's numbers; by default what the tenant's policy says."
    )

    @model_validator(mode="after")
    def _one_past(self) -> "NewMessage":
        if self.history is not None and self.conversation_id is not None:
            raise ValueError("history and conversation_id cannot be given together")
        return self

    @model_validator(mode="after")
    def _one_way_to_answer(self) -> "NewMessage":
        if self.background and self.stream:
            raise ValueError("background and stream cannot be given together: stream_url is the stream")
        return self


class SaidMessage(BaseModel):
    """One message of a conversation, as it is stored."""

    role: str
    content: str


class TokenUsage(BaseModel):
    """Tokens of one turn; `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    total_tokens: int


class Answer(BaseModel):
    """A whole answer. `history` is the whole conversation with this turn appended."""

    response: str
    history: list[SaidMessage]
    status: Literal[200] = 200
    time: str
    message_id: str
    conversation_id: str | None = Field(description="Null where only numbers are kept.")
    usage: TokenUsage
    finish_reason: str
    dropped_turns: int = Field(description="The conversation's oldest turns for which the prompt had no room.")


class BackgroundTurn(BaseModel):
    """A turn that runs in the background. Its `stream_url` reads it without a key, and nothing else."""

    message_id: str
    conversation_id: str | None
    stream_url: str
    time: str


class StreamQuery(BaseModel):
    """Where to go on listening, and the right to."""

    model_config = ConfigDict(extra="forbid")

    token: str | None = Field(None, max_length=512, description="Stands for a key; part of `stream_url`.")
    offset: int | None = Field(
        None, ge=0, le=2**31 - 1, description="Code points of the text that the caller has; Last-Event-ID goes before."
    )


class StoppedTurn(BaseModel):
    """A turn that was to be cancelled, and how it ended: it may have been faster."""

    message_id: str
    status: str
