"""Chat completions that were stored, as their tenant reads, labels and erases them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from app.common.errors import NotFound
from database.models import Item, Turn
from database.repositories.stored_turn_repository import StoredTurnFilter, StoredTurnRepository
from database.session import Database
from services.audit_service import Actor
from services.content_policy import check_kept
from services.erasure_service import erase_turn
from services.principal import Principal

ENDPOINT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """A turn and its answers: the items of each, in order."""

    turn: Turn
    answers: Sequence[Sequence[Item]]


class StoredCompletionService:
    """Each method is one transaction. Another tenant's id raises NotFound, as one that is not there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, principal: Principal, wanted: StoredTurnFilter, limit: int) -> list[StoredCompletion]:
        """At most `limit` of the tenant's."""
        async with self._database.begin(principal.tenant_id) as session:
            stored = StoredTurnRepository(session, ENDPOINT)
            return await _whole(stored, await stored.page(wanted, limit))

    async def get(self, principal: Principal, turn_id: str) -> StoredCompletion:
        """The one of that id."""
        async with self._database.begin(principal.tenant_id) as session:
            stored = StoredTurnRepository(session, ENDPOINT)
            return (await _whole(stored, [_existing(await stored.get(turn_id))]))[0]

    async def told(self, principal: Principal, turn_id: str) -> list[Item]:
        """What the model was told, in order."""
        async with self._database.begin(principal.tenant_id) as session:
            stored = StoredTurnRepository(session, ENDPOINT)
            _existing(await stored.get(turn_id))
            return await stored.items([turn_id], told=True)

    async def label(self, principal: Principal, turn_id: str, labels: Mapping[str, str]) -> StoredCompletion:
        """Give it these labels in place of those that it has. Raises InvalidRequest where the policy keeps nothing."""
        check_kept(principal, "metadata")
        async with self._database.begin(principal.tenant_id) as session:
            stored = StoredTurnRepository(session, ENDPOINT)
            (found,) = await _whole(stored, [_existing(await stored.get(turn_id))])
            found.turn.labels = dict(labels)
            return found

    async def delete(self, by: Actor, tenant_id: str, turn_id: str) -> None:
        """Erase it with all that was said; what it has used stays counted."""
        async with self._database.begin(tenant_id) as session:
            turn = _existing(await StoredTurnRepository(session, ENDPOINT).get(turn_id))
            _existing(turn if await erase_turn(session, by, turn) else None)
        await self._database.empty_log()


def _existing(turn: Turn | None) -> Turn:
    if turn is None:
        raise NotFound("There is no such completion.", param="completion_id", code="completion_not_found")
    return turn


async def _whole(stored: StoredTurnRepository, turns: Sequence[Turn]) -> list[StoredCompletion]:
    items = await stored.items([turn.id for turn in turns], told=False)
    answers: dict[str | None, list[list[Item]]] = {}
    for (turn_id, _), said in groupby(items, key=lambda item: (item.turn_id, item.answer)):
        answers.setdefault(turn_id, []).append(list(said))
    return [StoredCompletion(turn, answers.get(turn.id, [])) for turn in turns]
