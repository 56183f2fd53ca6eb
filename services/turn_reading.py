"""What the engine says of a turn, read into it as it comes."""

import asyncio
import logging
from collections.abc import Sequence

from app.common.errors import AppError, GenerationFailed, InvalidRequest, Unavailable
from database.clock import now
from database.models import TurnStatus
from services.choice import Choice
from services.inference.engine import Delta, Event, Failed, Generation, PromptLogprobs
from services.live_turn import LiveTurn
from services.turn_end import NOTHING, TurnEnd, Usage

log = logging.getLogger(__name__)

# Another replica can answer at once; the client has to come to it.
_STOPPING_RETRY = 1.0
# Where nobody knows better.
_FAILED_RETRY = 1.0


class TurnReading:
    """Reads one turn until it ends, or nobody wants it any more.

    Called for every token, straight from the connection to the engine: a task of its own for each turn, woken for each
    token, took a third of all the time that a token cost.
    """

    def __init__(self, turn: LiveTurn, choices: Sequence[Choice]) -> None:
        """`choices`: one for each of the turn's answers."""
        self._turn = turn
        self._choices = choices
        self._ended: asyncio.Future[TurnEnd] = asyncio.get_running_loop().create_future()

    async def end(self, generation: Generation) -> TurnEnd:
        """Take up the place, read until the end, and say how the turn has ended."""
        generation.start(self._hear)
        self._turn.unheard.tell(self._cancel)
        return await self._ended

    def _hear(self, event: Event) -> None:
        if self._ended.done():
            return
        try:
            end = self._read(event)
        except Exception as error:
            log.exception("a turn failed")
            known = error if isinstance(error, AppError) else GenerationFailed("The answer could not be made.")
            end = TurnEnd(status=TurnStatus.FAILED, usage=usage_so_far(self._turn), error=known)
        if end is not None:
            self._ended.set_result(end)

    def _read(self, event: Event) -> TurnEnd | None:
        turn = self._turn
        if isinstance(event, Delta):
            if turn.first_token_at is None:
                turn.first_token_at = now()
                turn.cached_tokens = event.cached_tokens
                turn.queue_seconds = event.queue_seconds
            choice = self._choices[event.index]
            if choice.finish_reason is None:
                # The engine knows no stop strings, and goes on until all answers have ended.
                turn.completion_tokens += len(event.token_ids)
            turn.append(choice.push(event))
        elif isinstance(event, Failed):
            self._cut()
            usage = usage_so_far(turn) if event.started else NOTHING
            return TurnEnd(status=TurnStatus.FAILED, usage=usage, error=_failure(event))
        elif isinstance(event, PromptLogprobs):
            if turn.echo is not None:
                turn.echo.push(event.logprobs)
            return None
        else:
            choice = self._choices[event.index]
            turn.append(choice.end(event))
            turn.cached_tokens = event.cached_tokens
        # The last may end before the engine does, at a stop string; to leave is to abort then.
        if choice.finish_reason and all(each.finish_reason for each in self._choices):
            return self._completed()
        return None

    def _cancel(self) -> None:
        if self._ended.done():
            return
        self._cut()
        # Whoever still listens does so because the service stops.
        error = self._turn.stopped or stopping("The service is stopping; the answer so far is stored.")
        self._ended.set_result(TurnEnd(status=TurnStatus.CANCELLED, usage=usage_so_far(self._turn), error=error))

    def _cut(self) -> None:
        for choice in self._choices:
            self._turn.append(choice.cut())

    def _completed(self) -> TurnEnd:
        usage = Usage(
            prompt_tokens=self._turn.prompt_tokens,
            cached_tokens=self._turn.cached_tokens,
            completion_tokens=sum(choice.tokens for choice in self._choices),
        )
        reasons = tuple(choice.finish_reason or "" for choice in self._choices)
        return TurnEnd(status=TurnStatus.COMPLETED, usage=usage, finish_reasons=reasons)


def usage_so_far(turn: LiveTurn) -> Usage:
    """What a turn has used."""
    return Usage(
        prompt_tokens=turn.prompt_tokens, cached_tokens=turn.cached_tokens, completion_tokens=turn.completion_tokens
    )


def stopping(message: str) -> Unavailable:
    """What callers are told because the service stops."""
    return Unavailable(message, code="shutting_down", retry_after=_STOPPING_RETRY)


def _failure(event: Failed) -> AppError:
    if event.retryable:
        return Unavailable(event.message, code=event.kind, retry_after=event.retry_after or _FAILED_RETRY)
    if event.kind == InvalidRequest.code:
        return InvalidRequest(event.message)
    return GenerationFailed(event.message, code=event.kind)
