"""Erasing for good, in bounded batches, with a report of what was deleted."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.common.errors import Conflict, InvalidRequest, NotFound
from database.deadlock import despite_deadlocks
from database.models import Conversation, Tenant, Turn
from database.repositories.conversation_repository import ConversationRepository
from database.repositories.erasure_preview import Doomed, ErasurePreview
from database.repositories.erasure_repository import Counts, ErasureRepository
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from services.audit_service import Actor, record
from services.tenant_service import existing, snapshot

# What one transaction deleted, and whether nothing is left to delete.
Batch = tuple[Counts, bool]


class ErasureService:
    """Deletes rows, not marks. Each batch is a transaction: what breaks off can be begun again.

    The reports count rows by table: those that this erasure deleted, also where another was faster with the rest.
    Nothing that runs is erased: Conflict, and trying again helps.
    """

    def __init__(self, database: Database, batch: int, pause: float = 0) -> None:
        """`batch`: turns, conversations or other rows that one transaction deletes at the most.

        `pause`: seconds from one transaction to the next.
        """
        self._database = database
        self._batch = batch
        self._pause = pause

    async def preview(self, tenant_id: str, *, conversation_id: str | None = None, user: str | None = None) -> Counts:
        """What would be deleted of one conversation or user, or with the whole tenant; the rows by table.

        Raises NotFound or InvalidRequest as the erasure itself does, but a tenant need not be suspended to look first.
        What runs would not be erased, and is not counted.
        """
        async with self._database.begin(tenant_id) as session:
            tenant = existing(await TenantRepository(session).get(tenant_id))
            preview = ErasurePreview(session)
            if conversation_id is not None:
                _existing(await ConversationRepository(session).get(conversation_id))
                return await preview.count(Doomed(conversations=Conversation.id == conversation_id))
            if user is not None:
                counts = await preview.count(Doomed(conversations=Conversation.user == user, turns=Turn.user == user))
                if not counts and not await ErasureRepository(session, self._batch).running(_turns_of(user)):
                    raise _nothing_stored()
                return counts
            _check_erasable(tenant)
            return await preview.tenant(tenant_id)

    async def conversation(self, by: Actor, tenant_id: str, conversation_id: str) -> Counts:
        """Erase a conversation and all that belongs to it. Raises NotFound or Conflict."""

        async def batch(session: AsyncSession) -> Batch:
            _existing(await ConversationRepository(session).lock(conversation_id))
            erasure = ErasureRepository(session, self._batch)
            await _unless_running(erasure, Turn.conversation_id == conversation_id, "conversation_locked")
            deleted = await erasure.conversations(Conversation.id == conversation_id)
            return deleted, deleted["conversations"] > 0

        return await self._all(_Erasure(by, "conversation", tenant_id, conversation_id), batch)

    async def user(self, by: Actor, tenant_id: str, user: str) -> Counts:
        """Erase the conversations and turns of one of the tenant's end users. Raises NotFound or Conflict."""

        async def batch(session: AsyncSession) -> Batch:
            erasure = ErasureRepository(session, self._batch)
            deleted = await erasure.conversations(Conversation.user == user) or await erasure.turns(Turn.user == user)
            # Asked last, when none begins any more in what was deleted, which then comes back.
            await _unless_running(erasure, _turns_of(user), "turn_running")
            if not deleted:
                raise _nothing_stored()
            return deleted, False

        # Audited without the name: it would outlive the erasure there.
        return await self._all(_Erasure(by, "user", tenant_id, None), batch)

    async def tenant(self, by: Actor, tenant_id: str) -> Counts:
        """Erase a suspended tenant with everything it has, its keys included.

        Raises NotFound; InvalidRequest unless it is suspended, which the administrators' never is; Conflict while its
        last turns run.
        """
        before: dict[str, Any] = {}

        async def batch(session: AsyncSession) -> Batch:
            tenant = existing(await TenantRepository(session).lock(tenant_id))
            _check_erasable(tenant)
            if tenant.suspended_at is None:
                raise InvalidRequest("Suspend the tenant first; erasing cannot be undone.", param="tenant_id")
            erasure = ErasureRepository(session, self._batch)
            await _unless_running(erasure, Turn.tenant_id == tenant_id, "turn_running")
            before.update(snapshot(tenant))
            deleted = await erasure.tenant(tenant_id)
            return deleted, deleted["tenants"] > 0

        return await self._all(_Erasure(by, "tenant", tenant_id, tenant_id, before), batch)

    async def _all(self, erasure: "_Erasure", batch: Callable[[AsyncSession], Awaitable[Batch]]) -> Counts:
        """Batch after batch until one says that it was the last, or finds that another eraser was faster."""
        total: Counts | None = None
        while True:
            transaction = partial(self._transaction, erasure, batch, total)
            deleted, was_last = await despite_deadlocks(transaction)
            total = (total or Counter()) + deleted
            if was_last:
                await self._database.empty_log()
                return total
            await asyncio.sleep(self._pause)

    async def _transaction(
        self, erasure: "_Erasure", batch: Callable[[AsyncSession], Awaitable[Batch]], so_far: Counts | None
    ) -> Batch:
        """One of an erasure that has deleted this before; None if it is the first.

        Audited, also as what it deleted, which is missing nowhere if the next one breaks off; the last as the report.
        """
        async with self._database.begin(erasure.tenant_id) as session:
            try:
                deleted, was_last = await batch(session)
            except NotFound:
                if so_far is None:
                    raise
                deleted, was_last = Counter(), True
            if so_far is None:
                erasure.record(
                    session, "erase", before=erasure.before or None, after=None if was_last else dict(deleted)
                )
            elif not was_last:
                erasure.record(session, "erase", after=dict(deleted))
            if was_last:
                erasure.record(session, "erased", after=dict((so_far or Counter()) + deleted))
        return deleted, was_last


@dataclass(frozen=True, slots=True)
class _Erasure:
    """`before`: what the log keeps of what is erased, from its first batch on; nothing where that is content."""

    by: Actor
    kind: str
    tenant_id: str
    target_id: str | None
    before: dict[str, Any] = field(default_factory=dict)

    def record(self, session: AsyncSession, what: str, **values: dict[str, Any] | None) -> None:
        action = f"{self.kind}.{what}"
        record(session, self.by, action, tenant_id=self.tenant_id, target_id=self.target_id, **values)


async def erase_turn(session: AsyncSession, by: Actor, turn: Turn) -> bool:
    """Erase a turn that has ended with all that belongs to it, also from recorded answers; False if it is gone."""
    deleted = await ErasureRepository(session, 1).turns(Turn.id == turn.id)
    if not deleted:
        return False
    record(session, by, "turn.erased", tenant_id=turn.tenant_id, target_id=turn.id, after=dict(deleted))
    return True


def _turns_of(user: str) -> ColumnElement[bool]:
    return or_(Turn.user == user, Turn.conversation_id.in_(select(Conversation.id).where(Conversation.user == user)))


def _existing(conversation: Conversation | None) -> None:
    if conversation is None:
        raise NotFound("There is no such conversation.", param="conversation_id", code="conversation_not_found")


def _nothing_stored() -> NotFound:
    return NotFound("Nothing is stored of such a user.", param="user", code="user_not_found")


def _check_erasable(tenant: Tenant) -> None:
    if tenant.administers:
        raise InvalidRequest("The administrators cannot be erased: revoke their keys.", param="tenant_id")


async def _unless_running(erasure: ErasureRepository, condition: ColumnElement[bool], code: str) -> None:
    if await erasure.running(condition):
        raise Conflict("A turn of it is running; wait for its end.", code=code, retry_after=1)
