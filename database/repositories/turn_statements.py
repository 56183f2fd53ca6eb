"""The statements of a turn's two transactions, and of recovery."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Select,
    and_,
    case,
    cast,
    delete,
    exists,
    false,
    func,
    insert,
    null,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import IntegrityError

from database.models import Conversation, Item, Lease, Turn, TurnStatus, TurnText
from database.prepared import OWN_TENANT, Prepared, given
from database.repositories.limit_statements import CHARGE, CHARGEABLE, COLUMNS, LIMITS_LOCKED
from database.repositories.usage_statements import SETTLE

_conversations: Any = Conversation.__table__
_turns: Any = Turn.__table__
_texts: Any = TurnText.__table__
_items: Any = Item.__table__
_leases: Any = Lease.__table__


def _row(table: Any, names: str, **renamed: str) -> dict[str, Any]:
    """Values of the transaction's tenant: columns given under their own names, and under others."""
    values = {name: given(renamed.get(name, name), table.c[name]) for name in [*names.split(), *renamed]}
    return {**values, "tenant_id": OWN_TENANT}


def _conversation(*conditions: Any) -> Any:
    """The turn's conversation, as a condition."""
    columns = _conversations.c
    return and_(
        columns.tenant_id == OWN_TENANT, columns.id == given("conversation_id", _turns.c.conversation_id), *conditions
    )


def _continuable() -> CompoundSelect[Any]:
    length = _conversations.c.length
    is_as_read = select(length == given("seen_length", length)).where(_conversation()).with_for_update()
    charged = CHARGEABLE.subquery()
    nothing = (cast(null(), charged.c[name].type).label(name) for name in COLUMNS)
    # In this order: whatever a turn does locks the limits first, then its conversation.
    return union_all(
        select(charged), select(*nothing, func.coalesce(is_as_read.scalar_subquery(), false()).label("ok"))
    )


# The conversation's length, and what was said, in order; one row without if nothing was.
READ_CONVERSATION = Prepared(
    select(_conversations.c.length, _items.c.type, _items.c.role, _items.c.text, _items.c.name, _items.c.call_id)
    .outerjoin(_items, and_(_items.c.tenant_id == OWN_TENANT, _items.c.conversation_id == _conversations.c.id))
    .where(_conversation())
    .order_by(_items.c.position)
)

_TURN = (
    insert(_turns).values(
        **_row(
            _turns,
            "conversation_id key_id user endpoint model parameters labels stored previous_id prompt_tokens "
            "dropped_turns created_at reserved_tokens reserved_at",
            id="turn_id",
        ),
        status=TurnStatus.RUNNING.value,
        cached_tokens=0,
        completion_tokens=0,
    ),
    insert(_leases).values(**_row(_leases, "turn_id owner expires_at")),
)
_BEGIN = (*_TURN, insert(_texts).values(**_row(_texts, "turn_id prompt"), response=""))
_NEW_CONVERSATION = insert(_conversations).values(
    **_row(_conversations, "user created_at length", id="conversation_id", used_at="created_at"), labels={}
)

_ITEM = "id conversation_id turn_id position type role text parts name call_id status answer created_at"
ADD_ITEM = Prepared(insert(_items).values(**_row(_items, _ITEM)))
# Each is charged to the limits of tenant and key, whose rows come back, and does nothing where they do not allow it.
BEGIN_CONVERSATION = Prepared(_NEW_CONVERSATION, *_BEGIN, CHARGE, guard=CHARGEABLE)
BEGIN_TURN = Prepared(*_BEGIN, CHARGE, guard=CHARGEABLE)
# Likewise, in a conversation that was read. A row besides, whose columns of limits are null, says in `ok` whether it is
# there and as long as it was.
CONTINUE_CONVERSATION = Prepared(
    update(_conversations).where(_conversation()).values(used_at=given("created_at", _conversations.c.used_at)),
    *_BEGIN,
    CHARGE,
    guard=_continuable(),
)
# The same for several turns at once: the rows of each, then the charge of all.
ADD_TURN, ADD_UNKEPT_TURN = Prepared(*_BEGIN), Prepared(*_TURN)
CHARGE_TOGETHER = Prepared(CHARGE, guard=CHARGEABLE)
# Of which only numbers are kept.
BEGIN_UNKEPT_TURN = Prepared(*_TURN, CHARGE, guard=CHARGEABLE)


_REMEMBER = (
    update(_texts)
    .where(_texts.c.tenant_id == OWN_TENANT, _texts.c.turn_id == given("turn_id", _texts.c.turn_id))
    .values(response=given("response", _texts.c.response))
)
_ENDED = (
    "status",
    "finish_reason",
    "error",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "first_token_at",
    "finished_at",
)

_own_turn = (_turns.c.tenant_id == OWN_TENANT, _turns.c.id == given("turn_id", _turns.c.id))
# The limits are locked first, by whatever a turn does, then the turn, then its conversation: else two could wait for
# each other. The state is told, not asked for: the index of what runs is full of what ran, until it is cleaned.
_mine = (
    select((_turns.c.status == TurnStatus.RUNNING.value).label("runs"))
    .where(*_own_turn, LIMITS_LOCKED)
    .with_for_update()
)
_mine_in_conversation = _mine.join(
    _conversations,
    and_(_conversations.c.tenant_id == OWN_TENANT, _conversations.c.id == _turns.c.conversation_id),
)


def _still(mine: Select[Any]) -> Select[Any]:
    """Whether the turn runs; if not, somebody else has ended it."""
    turn = mine.subquery()
    return select((func.count(case((turn.c.runs, 1))) == 1).label("ok"))


_ending = update(_turns).where(*_own_turn).values({name: given(name, _turns.c[name]) for name in _ENDED})
_RELEASE = delete(_leases).where(_leases.c.turn_id == given("turn_id", _leases.c.turn_id))
# Relative to what it is: what was erased while the turn ran has left a gap.
_GROWN = _conversations.c.length + given("said_items", _conversations.c.length)
# The only row says whether the turn still ran; if not, nothing is done.
INTERRUPT = Prepared(_RELEASE, _ending, *SETTLE, guard=_still(_mine))
REMEMBER = Prepared(_REMEMBER)

# Whether a turn that does not run ended as these parameters say; no row if it is gone.
HAS_ENDED_SO = Prepared(
    select(
        and_(
            _turns.c.status == given("status", _turns.c.status),
            _turns.c.finished_at == given("finished_at", _turns.c.finished_at),
        )
    ).where(*_own_turn)
)
_interrupted = (
    select(and_(_turns.c.status == TurnStatus.INTERRUPTED.value, _turns.c.completion_tokens == 0).label("runs"))
    .where(*_own_turn, LIMITS_LOCKED)
    .with_for_update()
)
_deleted = (
    select((_leases.c.tenant_id == OWN_TENANT).label("runs"))
    .where(_leases.c.turn_id == given("turn_id", _leases.c.turn_id))
    .where(~exists(select(_turns.c.id).where(*_own_turn)), LIMITS_LOCKED)
    .with_for_update()
)
# What a turn that was deleted while it ran gives back, once: whatever ends a turn takes its lease along.
END_DELETED = Prepared(_RELEASE, *SETTLE, guard=_still(_deleted))
_LATE = ("cached_tokens", "completion_tokens", "first_token_at")
# What an interrupted turn had said, once. Its end stays what it was.
COMPLETE_INTERRUPTED = Prepared(
    _REMEMBER,
    update(_turns).where(*_own_turn).values({name: given(name, _turns.c[name]) for name in _LATE}),
    *SETTLE,
    guard=_still(_interrupted),
)


@cache
def end(items: int, *, said: bool) -> Prepared:
    """The end of a turn with so many items, whose parameters are `numbered`; `said` in its conversation, or in none."""
    added = [insert(_items).values(**_row(_items, "", **_names(number))) for number in range(items)]
    if not said:
        return Prepared(_REMEMBER, *added, _RELEASE, _ending, *SETTLE, guard=_still(_mine))
    grown = update(_conversations).where(_conversation()).values(length=_GROWN)
    return Prepared(_REMEMBER, *added, grown, _RELEASE, _ending, *SETTLE, guard=_still(_mine_in_conversation))


def numbered(number: int, item: Mapping[str, Any]) -> dict[str, Any]:
    """An item's columns, as parameters of `end`."""
    return {name: item[column] for column, name in _names(number).items()}


def _names(number: int) -> dict[str, str]:
    return {column: f"item_{number}_{column}" for column in _ITEM.split()}


def is_busy(error: IntegrityError) -> bool:
    """Whether a turn could not begin because another one of its conversation runs."""
    # PostgreSQL names the constraint, SQLite its columns.
    message = str(error.orig)
    return "uq_turns_running" in message or "turns.tenant_id, turns.conversation_id" in message
