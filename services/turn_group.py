"""Several turns that a caller hears as one."""

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from database.models import TurnStatus
from services.live_turn import LiveTurn
from services.turn_end import TurnEnd, Usage


class TurnGroup:
    """Passes on what some turns say, with their answers numbered one turn after the other.

    Attributes:
        turn: what the caller listens to. It has no row: those of the others are the log.
    """

    def __init__(self, turns: Sequence[LiveTurn]) -> None:
        """`turns`: at least one, all running; nobody else listens to them."""
        self._turns = turns
        first = turns[0]
        self.turn = LiveTurn(
            id=first.id,
            conversation_id=None,
            created_at=first.created_at,
            prompt_tokens=sum(turn.prompt_tokens for turn in turns),
            count=sum(turn.count for turn in turns),
            allowance=min(turns, key=_remaining).allowance,
        )

    async def run(self) -> None:
        """Pass on until all have ended well, or one has not, or nobody listens; what still runs is then left."""
        offsets = [sum(turn.count for turn in self._turns[:at]) for at in range(len(self._turns))]
        hearing = [asyncio.create_task(self._hear(*each)) for each in zip(self._turns, offsets, strict=True)]
        left = asyncio.create_task(self.turn.unheard.wait())
        pending: set[asyncio.Task[TurnEnd] | asyncio.Task[bool]] = {*hearing, left}
        failed: TurnEnd | None = None
        while failed is None and not left.done() and len(pending) > 1:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            failed = next((task.result() for task in hearing if task.done() and task.result().error), None)
        for task in pending:
            task.cancel()
        await asyncio.wait({*hearing, left})
        ends = [task.result() for task in hearing if not task.cancelled()]
        self.turn.end(failed or _together(ends, cancelled=len(ends) < len(hearing)))

    async def _hear(self, turn: LiveTurn, offset: int) -> TurnEnd:
        async for event in turn.events():
            if isinstance(event, TurnEnd):
                return event
            self.turn.append([replace(event, index=event.index + offset)])
        raise AssertionError("a turn's events end with its end")


def _remaining(turn: LiveTurn) -> tuple[int, ...]:
    allowance = turn.allowance
    meters = () if allowance is None else (allowance.requests, allowance.tokens)
    return tuple(meter.remaining for meter in meters if meter is not None)


def _together(ends: Sequence[TurnEnd], *, cancelled: bool) -> TurnEnd:
    return TurnEnd(
        status=TurnStatus.CANCELLED if cancelled else TurnStatus.COMPLETED,
        usage=Usage(
            prompt_tokens=sum(end.usage.prompt_tokens for end in ends),
            cached_tokens=sum(end.usage.cached_tokens for end in ends),
            completion_tokens=sum(end.usage.completion_tokens for end in ends),
        ),
        finish_reasons=tuple(reason for end in ends for reason in end.finish_reasons),
    )
