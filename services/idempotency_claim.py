"""Who answers a request under an idempotency key, and the answer once it is stored; decided by the database."""

import asyncio
import json
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.exc import IntegrityError

from app.common.errors import Conflict
from database.clock import now
from database.driver import Rows
from database.identifier import new_id
from database.repositories.idempotency_repository import IdempotencyRepository
from database.repositories.idempotency_statements import CLAIM, READ
from database.repositories.recorded_answers import RecordedAnswers
from database.session import Database
from services.erased_caller import refused_if_erased
from services.recording import AnswerHead, Recording

KEPT = timedelta(hours=24)
# Numbers of the moment, which say nothing any more when the answer is given again.
_PASSING = ("x-ratelimit-", "retry-after")


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer; without a body if content is not kept."""

    head: AnswerHead
    body: bytes | None

    async def replay(self, recording: Recording) -> None:
        """Give it once more. Raises Conflict if it was not kept."""
        if self.body is None:
            raise Conflict(
                "This request was answered before, and the answer was not kept.", code="idempotency_answer_not_kept"
            )
        body = await asyncio.to_thread(zlib.decompress, self.body)
        recording.is_replayed = True
        recording.begin(self.head)
        recording.add(body)
        recording.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A request under its key.

    Attributes:
        attempt: who answers it: whoever claimed it, if it `is_ours`, otherwise somebody else.
        answer: None while that goes on.
    """

    tenant_id: str
    key: str
    fingerprint: str
    attempt: str
    is_ours: bool
    answer: StoredAnswer | None


class IdempotencyClaims:
    """The rows of idempotency keys."""

    def __init__(self, database: Database, *, owner: str, lease: timedelta) -> None:
        """See IdempotencyService."""
        self._database = database
        self._owner = owner
        self._lease = lease

    async def claim(self, tenant_id: str, key: str, fingerprint: str) -> Claim:
        """Claim a request, unless somebody else has; that one is told that its answer is waited for.

        Raises Unauthenticated if the tenant was erased meanwhile.
        """
        at, attempt = now(), new_id()
        given = {
            "key": key,
            "fingerprint": fingerprint,
            "attempt": attempt,
            "owner": self._owner,
            "created_at": at,
            "expires_at": at + self._lease,
            "kept_since": at - KEPT,
        }
        rows: Rows = []
        # Whoever has answered may be forgotten between the two.
        while not rows:
            async with refused_if_erased(self._database, tenant_id):
                rows = await self._database.run_prepared(tenant_id, given, CLAIM)
            rows = rows or await self._database.run_prepared(tenant_id, given, READ)
        found, by, status, headers, body = rows[0]
        answer = None
        if status is not None:
            answer = StoredAnswer(AnswerHead(status, [(name, value) for name, value in json.loads(headers)]), body)
        return Claim(tenant_id=tenant_id, key=key, fingerprint=found, attempt=by, is_ours=by == attempt, answer=answer)

    async def renew(self, claim: Claim) -> datetime | None:
        """Give a sign of life; when somebody last waited for the answer elsewhere."""
        async with self._database.begin(claim.tenant_id) as session:
            row = await IdempotencyRepository(session).attempted(claim.key, claim.attempt)
            if row is None:
                return None
            row.expires_at = now() + self._lease
            return row.heard_at

    async def store(self, claim: Claim, recording: Recording, body: bytes) -> None:
        """Store the answer, unless somebody else gives it by now, or something that it repeats was erased.

        One that belongs to no turn is not stored: nothing would erase it. Of one whose turn keeps no text, no body is.
        """
        head = recording.known_head
        if head is None:
            raise AssertionError("an answer has a head")
        packed = await asyncio.to_thread(zlib.compress, body)
        try:
            async with self._database.begin(claim.tenant_id) as session:
                row = await IdempotencyRepository(session).attempted(claim.key, claim.attempt)
                turn_id, answers = recording.turn_id, RecordedAnswers(session)
                if turn_id is None or not await answers.may_be_kept(turn_id, recording.turns):
                    await IdempotencyRepository(session).forget(claim.key, claim.attempt)
                elif row is not None:
                    row.status, row.turn_id = head.status, turn_id
                    # As the turn found it when it began: the request, and who sends it, might say something else.
                    row.body = packed if await answers.has_text(turn_id) else None
                    row.headers = [[name, value] for name, value in head.headers if not name.startswith(_PASSING)]
        except IntegrityError:
            await self.forget(claim)

    async def forget(self, claim: Claim) -> None:
        """Let the request be as if it had never been sent."""
        async with self._database.begin(claim.tenant_id) as session:
            await IdempotencyRepository(session).forget(claim.key, claim.attempt)
