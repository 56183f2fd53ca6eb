"""Answers under idempotency keys: given once, however often and wherever a request is sent."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from app.common.errors import AppError, Conflict, Unavailable
from database.clock import now
from database.session import Database
from services.idempotency_claim import Claim, IdempotencyClaims
from services.notice import Notice
from services.recording import Recording

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
# For so long this process asks for another one's answer that nobody waits for here any more.
_LINGER = 5.0
_FAREWELL_SECONDS = 2.0

# Records an answer, all but the last piece, which it returns: that one is given once the answer is stored.
Perform = Callable[[Recording, Notice], Awaitable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedRequest:
    """A request that may be sent again.

    Attributes:
        key: the caller's.
        key_id: the API key of whoever sends it.
        fingerprint: equal for equal requests.
    """

    tenant_id: str
    key: str
    key_id: str
    fingerprint: str


class IdempotencyService:
    """One recording for each key that somebody waits for in this process, however many wait."""

    def __init__(self, database: Database, *, owner: str, lease: timedelta, unheard_seconds: float) -> None:
        """Put the parts together.

        Args:
            database: where answers are stored.
            owner: the instance; what one that was started again had begun is lost.
            lease: how long other instances wait for a sign of life before they answer themselves.
            unheard_seconds: after how long without anybody who waits an answer is given up.
        """
        self._claims = IdempotencyClaims(database, owner=owner, lease=lease)
        self._renewal = lease.total_seconds() / 3
        self._unheard_seconds = unheard_seconds
        self._running: dict[tuple[str, str], tuple[Recording, asyncio.Task[None]]] = {}

    def answer(self, request: KeyedRequest, perform: Perform) -> Recording:
        """The one answer to this request; `perform` records it if nobody has before.

        It is told by the event that nobody waits any more. What it raises is not remembered, nor is an answer that is
        broken: once that is over, the next who asks makes another. Raises Conflict for another request under the same
        key.
        """
        name = (request.tenant_id, request.key)
        recording, _ = self._running.get(name, (None, None))
        if recording is None or recording.is_over:
            recording = Recording(request.fingerprint, request.key_id)
            task = asyncio.create_task(self._run(request, recording, perform))
            self._running[name] = recording, task
            task.add_done_callback(lambda task: self._forget(name, task))
        elif recording.fingerprint != request.fingerprint:
            raise _another_request()
        return recording

    async def close(self) -> None:
        """Leave what is not answered yet to other instances, or to the next life of this one."""
        tasks = [task for _, task in self._running.values()]
        if tasks:
            # Those whose turns have just ended are about to store their answers.
            await asyncio.wait(tasks, timeout=_FAREWELL_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, name: tuple[str, str], task: asyncio.Task[None]) -> None:
        # One that was over may have a successor before its task has ended.
        _, running = self._running.get(name, (None, None))
        if running is task:
            del self._running[name]

    async def _run(self, request: KeyedRequest, recording: Recording, perform: Perform) -> None:
        stopped: AppError = Unavailable("The service is stopping; send the request again.", retry_after=1)
        try:
            claim = await self._claimed(request, recording)
            if claim.answer is not None:
                await claim.answer.replay(recording)
            else:
                await self._perform(recording, perform, claim)
                recording.end()
        except asyncio.CancelledError:
            recording.end(stopped)
            raise
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            recording.end(error)

    async def _claimed(self, request: KeyedRequest, recording: Recording) -> Claim:
        """A claim that is ours, or has its answer."""
        while True:
            claim = await self._claims.claim(request.tenant_id, request.key, request.fingerprint)
            if claim.fingerprint != request.fingerprint:
                raise _another_request()
            if claim.is_ours or claim.answer is not None:
                return claim
            if recording.is_unheard(_LINGER):
                raise Unavailable("Nobody waits for the answer here any more.", retry_after=1)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _perform(self, recording: Recording, perform: Perform, claim: Claim) -> None:
        unheard = Notice()
        performing = asyncio.ensure_future(perform(recording, unheard))
        try:
            await self._look_after(claim, recording, performing, unheard)
            last = await performing
        except BaseException:
            performing.cancel()
            await asyncio.wait({performing})
            await self._claims.forget(claim)
            raise
        try:
            if recording.is_broken:
                await self._claims.forget(claim)
            else:
                await self._claims.store(claim, recording, recording.whole_body + last)
        except Unavailable as error:
            log.warning("an answer could not be kept for its idempotency key: %s", error.message)
        recording.add(last)

    async def _look_after(
        self, claim: Claim, recording: Recording, performing: asyncio.Future[bytes], unheard: Notice
    ) -> None:
        renewed_at = time.monotonic()
        while not performing.done():
            await asyncio.wait({performing}, timeout=1)
            alone = recording.is_unheard(self._unheard_seconds)
            if performing.done() or not (alone or time.monotonic() - renewed_at >= self._renewal):
                continue
            try:
                heard_at = await self._claims.renew(claim)
            except Unavailable as error:
                log.warning("a claim could not be renewed: %s", error.message)
                continue
            renewed_at = time.monotonic()
            if alone and (heard_at is None or (now() - heard_at).total_seconds() >= self._unheard_seconds):
                unheard.set()


def _another_request() -> Conflict:
    return Conflict(
        "Another request was sent under this Idempotency-Key.", param="Idempotency-Key", code="idempotency_key_reused"
    )
