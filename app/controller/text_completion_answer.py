"""Answers of `/v1/completions`, whole."""

from app.controller.completion_answer import completion_usage
from app.controller.text_logprobs import TextLogprobsWriter
from schemas.text_completion_schema import TextChoice, TextCompletion, TextLogprobs
from services.answer_delta import Answer
from services.echo import Echo
from services.live_turn import LiveTurn
from services.text_completion_service import StartedTexts
from services.turn_end import TurnEnd


def text_completion_id(turn: LiveTurn) -> str:
    """The name of a request on this route: its first turn's."""
    return f"cmpl-{turn.id}"


def echo_of(started: StartedTexts, index: int) -> Echo | None:
    """The echo before an answer, by its number; None where nothing is echoed."""
    if not started.echoes:
        return None
    return started.echoes[index * len(started.echoes) // started.turn.count]


def text_completion(started: StartedTexts, end: TurnEnd, model: str, *, logprobs: bool) -> TextCompletion:
    """All answers of turns that have ended well; with log-probabilities, if they were asked for."""
    turn = started.turn
    return TextCompletion(
        id=text_completion_id(turn),
        created=int(turn.created_at.timestamp()),
        model=model,
        choices=[
            _choice(index, answer, echo_of(started, index), reason, logprobs=logprobs)
            for index, (answer, reason) in enumerate(zip(turn.answers, end.finish_reasons, strict=True))
        ],
        usage=completion_usage(end.usage),
    )


def _choice(index: int, answer: Answer, echo: Echo | None, reason: str, *, logprobs: bool) -> TextChoice:
    text = answer.text if echo is None else echo.text + answer.text
    return TextChoice(
        index=index, text=text, logprobs=_logprobs(answer, echo) if logprobs else None, finish_reason=reason
    )


def _logprobs(answer: Answer, echo: Echo | None) -> TextLogprobs:
    writer = TextLogprobsWriter()
    parts = [writer.echo(echo)] if echo is not None else []
    parts.append(writer.part(answer.chances))
    return TextLogprobs(
        tokens=[each for part in parts for each in part.tokens],
        token_logprobs=[each for part in parts for each in part.token_logprobs],
        top_logprobs=[each for part in parts for each in part.top_logprobs],
        text_offset=[each for part in parts for each in part.text_offset],
    )
