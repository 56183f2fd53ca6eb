"""The rows of a turn: opened before its first byte (T1), settled before its last event (T2)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError

from app.common.errors import Conflict, TurnInterrupted
from database.clock import now
from database.driver import Rows
from database.models import TurnStatus
from database.repositories import turn_statements
from database.repositories.chunk_statements import FORGET_CHUNKS, READ_CHUNKS
from database.repositories.key_repository import KeyRepository
from database.repositories.lease_repository import LeaseRepository
from database.repositories.limit_statements import COLUMNS
from database.repositories.turn_repository import TurnRepository
from database.session import Database
from services.allowance import Allowance, allowance
from services.erased_caller import refused_if_erased
from services.limit_window import minute_began, windows
from services.live_turn import LiveTurn
from services.said_item import item_rows
from services.settlement import Settlement, counted, late_values, uncharged
from services.turn_end import Usage
from services.turn_opening import TurnOpening

_MINUTE = COLUMNS.index("minute")
# Items that are written in the statement of a turn's end: few turns have more.
_AT_ONCE = 4
# Ids that a statement names: after a long outage there may be more than a statement takes parameters.
_MOST_NAMED = 10_000


class TurnLog:
    """Writes turns. Each method is one transaction."""

    def __init__(self, database: Database, *, owner: str, lease: timedelta) -> None:
        """`owner`: the instance whose leases these are; `lease`: how long one lasts unless it is renewed."""
        self._database = database
        self._owner = owner
        self._lease = lease

    async def open(self, turn: LiveTurn, opening: TurnOpening) -> None:
        """T1.

        Raises Conflict if another turn of the conversation runs or has ended meanwhile, RateLimited if limits do not
        allow it, Unauthenticated if its tenant was erased meanwhile.
        """
        turn.charged_at = turn.created_at
        while True:
            try:
                return await self._open(turn, opening)
            except _MinuteIsOver as over:
                # Another process was faster into the next minute. What is charged in one window and settled in another
                # would be lost: all of it goes into the later one.
                turn.charged_at = over.next

    async def _open(self, turn: LiveTurn, opening: TurnOpening) -> None:
        given = self._given(turn, opening)
        principal = opening.principal
        try:
            async with refused_if_erased(self._database, principal.tenant_id, principal.key_id):
                turn.allowance = await self._charge(turn, opening, given)
        except IntegrityError as error:
            if turn_statements.is_busy(error):
                raise _locked() from error
            raise

    async def _charge(self, turn: LiveTurn, opening: TurnOpening, given: dict[str, Any]) -> Allowance:
        tenant_id = opening.principal.tenant_id
        if turn.conversation_id is None:
            begin = turn_statements.BEGIN_TURN if opening.keeps_text else turn_statements.BEGIN_UNKEPT_TURN
            return _allowed(await self._database.run_prepared(tenant_id, given, begin), given)
        if opening.seen_length is not None:
            rows = await self._database.run_prepared(tenant_id, given, turn_statements.CONTINUE_CONVERSATION)
            charged = [row for row in rows if row[_MINUTE] is not None]
            if not all(row[-1] for row in rows if row[_MINUTE] is None):
                raise _locked()
            return _allowed(charged, given)
        if not opening.history:
            rows = await self._database.run_prepared(tenant_id, given, turn_statements.BEGIN_CONVERSATION)
            return _allowed(rows, given)
        async with self._database.begin_prepared(tenant_id) as transaction:
            (rows,) = await transaction.run(given, turn_statements.BEGIN_CONVERSATION)
            allowed = _allowed(rows, given)
            await transaction.each(_history(turn, opening), turn_statements.ADD_ITEM)
            return allowed

    async def open_together(self, turns: Sequence[tuple[LiveTurn, TurnOpening]]) -> None:
        """T1 of several turns of one request, none of them in a conversation: of all or of none.

        Raises RateLimited if limits do not allow all of them, Unauthenticated if their tenant was erased meanwhile.
        """
        charged_at = turns[0][0].created_at
        while True:
            for turn, _ in turns:
                turn.charged_at = charged_at
            try:
                return await self._open_together(turns)
            except _MinuteIsOver as over:
                charged_at = over.next

    async def _open_together(self, turns: Sequence[tuple[LiveTurn, TurnOpening]]) -> None:
        given = [self._given(turn, opening) for turn, opening in turns]
        reserved = sum(one["reserved_tokens"] for one in given)
        together = given[0] | {"reserved_tokens": reserved, "charged_turns": len(given)}
        opening, principal = turns[0][1], turns[0][1].principal
        rows_of_each = turn_statements.ADD_TURN if opening.keeps_text else turn_statements.ADD_UNKEPT_TURN
        async with (
            refused_if_erased(self._database, principal.tenant_id, principal.key_id),
            self._database.begin_prepared(principal.tenant_id) as transaction,
        ):
            # First, though it may be in vain: who sets limits locks the turns before the limits.
            await transaction.each(given, rows_of_each)
            (rows,) = await transaction.run(together, turn_statements.CHARGE_TOGETHER)
            left = _allowed(rows, together)
        for turn, _ in turns:
            turn.allowance = left

    def _given(self, turn: LiveTurn, opening: TurnOpening) -> dict[str, Any]:
        return _opened(turn, opening) | {"owner": self._owner, "expires_at": turn.created_at + self._lease}

    async def settle(self, end: Settlement) -> None:
        """T2. Done again, perhaps because nobody knows whether it was done, it changes nothing.

        Raises TurnInterrupted if somebody else ended the turn, because this instance gave no sign of life: it stays
        interrupted, and what it said and used is added to it. Or if it is gone: if it was deleted while it ran, limits
        get back what they were charged.
        """
        given, items = end.values(), end.item_rows()
        together, rest = items[:_AT_ONCE], items[_AT_ONCE:]
        for number, item in enumerate(together):
            given |= turn_statements.numbered(number, item)
        ending = turn_statements.end(len(together), said=end.said)
        if rest or end.resumable:
            async with self._database.begin_prepared(end.tenant_id) as transaction:
                ((ended,),) = await transaction.run(given, ending)
                if ended[0] and rest:
                    await transaction.each(rest, turn_statements.ADD_ITEM)
                if ended[0] and end.resumable:
                    await transaction.run(given, FORGET_CHUNKS)
        else:
            (ended,) = await self._database.run_prepared(end.tenant_id, given, ending)
        if not ended[0] and not await self._is_settled(end, given):
            raise TurnInterrupted

    async def _is_settled(self, end: Settlement, given: dict[str, Any]) -> bool:
        """Whether a turn that does not run has ended so; where recovery was faster, its end is completed."""
        rows = await self._database.run_prepared(end.tenant_id, given, turn_statements.HAS_ENDED_SO)
        if not rows:
            await self._database.run_prepared(end.tenant_id, given, turn_statements.END_DELETED)
        if not rows or rows[0][0] or not end.usage.completion_tokens:
            return bool(rows and rows[0][0])
        late = given | late_values(end.usage)
        await self._database.run_prepared(end.tenant_id, late, turn_statements.COMPLETE_INTERRUPTED)
        return False

    async def interrupt(self, tenant_id: str, turn_id: str) -> bool:
        """Settle a turn whose process died, unless it has ended; whether it had not."""
        async with self._database.begin(tenant_id) as session:
            turn = await TurnRepository(session).running(turn_id)
            if turn is None:
                await LeaseRepository(session).release([turn_id])
                return False
            key = await KeyRepository(session).get(turn.key_id)
        usage = Usage(
            prompt_tokens=turn.prompt_tokens,
            cached_tokens=turn.cached_tokens,
            completion_tokens=turn.completion_tokens,
        )
        given = {
            "turn_id": turn.id,
            "position": 0,
            "finish_reason": None,
            "error": None,
            **counted(
                TurnStatus.INTERRUPTED, usage, created_at=turn.created_at, first_token_at=None, finished_at=now()
            ),
            **uncharged(turn.reserved_tokens, turn.reserved_at or turn.created_at, usage),
            "key_id": turn.key_id,
            "limit_subject": turn.key_id if key is None else key.limit_subject or key.id,
            "model": turn.model,
        }
        async with self._database.begin_prepared(tenant_id) as transaction:
            # The pieces are read once no more of them can be added.
            ((ended,),), chunks = await transaction.run(given, turn_statements.INTERRUPT, READ_CHUNKS)
            if ended and chunks:
                said = {"response": "".join(text for _, text in chunks)}
                await transaction.run(given | said, turn_statements.REMEMBER, FORGET_CHUNKS)
        return bool(ended)

    async def renew(self, turn_ids: list[str]) -> None:
        """Give a sign of life for these turns."""
        async with self._database.begin_global() as session:
            for first in range(0, max(1, len(turn_ids)), _MOST_NAMED):
                named = turn_ids[first : first + _MOST_NAMED]
                await LeaseRepository(session).renew(named, now() + self._lease)


class _MinuteIsOver(Exception):
    """The rows of limits are in a later minute, which begins at `next`."""

    def __init__(self, following: datetime) -> None:
        super().__init__()
        self.next = following


def _locked() -> Conflict:
    return Conflict("Another turn of this conversation is running; wait for its end.", retry_after=1)


def _opened(turn: LiveTurn, opening: TurnOpening) -> dict[str, Any]:
    at = turn.charged_at or turn.created_at
    return {
        "turn_id": turn.id,
        "conversation_id": turn.conversation_id,
        "key_id": opening.principal.key_id,
        "limit_subject": opening.principal.limit_subject,
        "user": opening.user,
        "endpoint": opening.endpoint,
        "model": opening.model,
        "parameters": opening.parameters,
        "labels": dict(opening.labels),
        "stored": opening.stored,
        "previous_id": opening.previous_id,
        "prompt": opening.prompt,
        "prompt_tokens": turn.prompt_tokens,
        "dropped_turns": turn.dropped_turns,
        "created_at": turn.created_at,
        "length": opening.length,
        "seen_length": opening.seen_length,
        "reserved_tokens": turn.prompt_tokens + opening.max_tokens,
        "reserved_at": at,
        "charged_turns": 1,
        **windows(at),
    }


def _history(turn: LiveTurn, opening: TurnOpening) -> list[dict[str, Any]]:
    owner = {"conversation_id": turn.conversation_id, "turn_id": None, "created_at": turn.created_at}
    return item_rows(opening.history, 0, **owner)


def _allowed(charged: Rows, given: dict[str, Any]) -> Allowance:
    latest = max((row[_MINUTE] for row in charged), default=0)
    if latest > given["limit_minute"]:
        raise _MinuteIsOver(minute_began(latest))
    return allowance(charged, given["reserved_tokens"], given["reserved_at"], turns=given["charged_turns"])
