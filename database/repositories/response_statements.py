"""How a turn reads the stored responses that it goes on from, and items that it refers to."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import and_, literal, select

from database.models import Item, Turn
from database.prepared import OWN_TENANT, Prepared, given

_turns: Any = Turn.__table__
_items: Any = Item.__table__


def _responses() -> Any:
    """Responses from a given one back to the first, each with how far back it is: a response names the one before."""
    columns = (_turns.c.id, _turns.c.previous_id, _turns.c.status, _turns.c.conversation_id)
    stored = (
        _turns.c.tenant_id == OWN_TENANT,
        _turns.c.stored,
        _turns.c.endpoint == given("endpoint", _turns.c.endpoint),
    )
    last = select(*columns, literal(0).label("back")).where(*stored, _turns.c.id == given("previous_id", _turns.c.id))
    chain = last.cte("chain", recursive=True)
    before = select(*columns, chain.c.back + 1).where(*stored, _turns.c.id == chain.c.previous_id)
    return chain.union_all(before)


_chain = _responses()
# Each response's status, the one before it, its conversation, and what was said in it, oldest first; a row without if
# nothing was. The oldest has none before it, unless that was erased.
READ_RESPONSES = Prepared(
    select(
        *(_chain.c.status, _chain.c.previous_id, _chain.c.conversation_id),
        *(_items.c.type, _items.c.role, _items.c.text, _items.c.name, _items.c.call_id),
    )
    .select_from(_chain)
    .outerjoin(_items, and_(_items.c.tenant_id == OWN_TENANT, _items.c.turn_id == _chain.c.id))
    .order_by(_chain.c.back.desc(), _items.c.position)
)


@cache
def read_items(count: int) -> Prepared:
    """Of so many items, whose ids are parameters by `item_parameters`, those that are there."""
    columns = (_items.c.id, _items.c.type, _items.c.role, _items.c.text, _items.c.name, _items.c.call_id)
    wanted = [given(f"item_{number}", _items.c.id) for number in range(count)]
    return Prepared(select(*columns).where(_items.c.tenant_id == OWN_TENANT, _items.c.id.in_(wanted)))


def item_parameters(ids: Sequence[str]) -> dict[str, str]:
    """At least one id, the last repeated: so there are few statements, whatever the count."""
    count = 1 << (len(ids) - 1).bit_length()
    return {f"item_{number}": ids[min(number, len(ids) - 1)] for number in range(count)}
