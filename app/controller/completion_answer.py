"""A turn's answers as `/v1/chat/completions` gives them whole."""

from collections.abc import Sequence

from schemas.completion_request_schema import CompletionRequest
from schemas.completion_schema import (
    AssistantMessage,
    ChatCompletion,
    ChoiceLogprobs,
    CompletionChoice,
    CompletionUsage,
    PromptTokensDetails,
    TokenLogprob,
    TopLogprob,
)
from schemas.tool_schema import CalledFunction, ToolCallEntry
from services.answer_delta import Answer, CallDelta, TokenChance
from services.live_turn import LiveTurn
from services.turn_end import TurnEnd, Usage


def completion_id(turn_id: str) -> str:
    """The name of a turn on these routes."""
    return f"chatcmpl-{turn_id}"


def completion(turn: LiveTurn, end: TurnEnd, body: CompletionRequest) -> ChatCompletion:
    """All answers of a turn that has ended well; with log-probabilities, if they were asked for."""
    return ChatCompletion(
        id=completion_id(turn.id),
        created=int(turn.created_at.timestamp()),
        model=body.model,
        choices=[
            CompletionChoice(
                index=index,
                message=_message(answer),
                logprobs=choice_logprobs(answer.chances) if body.logprobs else None,
                finish_reason=reason,
            )
            for index, (answer, reason) in enumerate(zip(turn.answers, end.finish_reasons, strict=True))
        ],
        usage=completion_usage(end.usage),
        metadata=body.metadata or {},
    )


def call_entry(delta: CallDelta) -> ToolCallEntry:
    """A tool call."""
    return ToolCallEntry(id=delta.id, function=CalledFunction(name=delta.call.name, arguments=delta.call.arguments))


def choice_logprobs(chances: Sequence[TokenChance]) -> ChoiceLogprobs:
    """The log-probabilities of these tokens."""
    return ChoiceLogprobs(
        content=[
            TokenLogprob(
                **_chance(chance), top_logprobs=[TopLogprob(**_chance(other)) for other in chance.alternatives]
            )
            for chance in chances
        ]
    )


def completion_usage(usage: Usage) -> CompletionUsage:
    """What a turn has used."""
    return CompletionUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=usage.cached_tokens),
    )


def _message(answer: Answer) -> AssistantMessage:
    calls = [call_entry(delta) for delta in answer.calls]
    return AssistantMessage(content=None if calls and not answer.text else answer.text, tool_calls=calls or None)


def _chance(chance: TokenChance) -> dict[str, object]:
    return {"token": chance.token, "bytes": list(chance.bytes) or None, "logprob": chance.logprob}
