"""The statements of a turn's two transactions, and of recovery."""

from typing import Any

from sqlalchemy import and_, delete, insert, literal, select, update
from sqlalchemy.exc import IntegrityError

from database.models import Conversation, Item, Lease, Turn, TurnStatus, TurnText
from database.prepared import OWN_TENANT, Prepared, Statement, given

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


# The conversation's length, and role and text of all that was said, in order; one row without them if nothing was.
READ_CONVERSATION = Prepared(
    select(_conversations.c.length, _items.c.role, _items.c.text)
    .outerjoin(_items, and_(_items.c.tenant_id == OWN_TENANT, _items.c.conversation_id == _conversations.c.id))
    .where(_conversation())
    .order_by(_items.c.position)
)

_TURN = (
    insert(_turns).values(
        **_row(
            _turns,
            "conversation_id key_id user endpoint model parameters prompt_tokens dropped_turns created_at "
            "reserved_tokens reserved_at",
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
    **_row(_conversations, "user created_at length", id="conversation_id", used_at="created_at")
)

ADD_HISTORY = Prepared(
    insert(_items).values(**_row(_items, "id conversation_id position role text created_at"), type="message")
)
BEGIN_CONVERSATION = Prepared(_NEW_CONVERSATION, *_BEGIN)
CONTINUE_CONVERSATION = Prepared(
    update(_conversations)
    .where(_conversation(_conversations.c.length == given("seen_length", _conversations.c.length)))
    .values(used_at=given("created_at", _conversations.c.used_at))
    .returning(_conversations.c.id)
)
BEGIN_TURN = Prepared(*_BEGIN)
# Of which only numbers are kept.
BEGIN_UNKEPT_TURN = Prepared(*_TURN)


# The next turn of a conversation locks it, then waits for the turn that ends. This one must not wait the other way.
_locked = (
    select(_conversations.c.id, _conversations.c.length).where(_conversation()).with_for_update().cte("conversation")
)


def _said(offset: int, item: str, role: str, text: str) -> Statement:
    return insert(_items).from_select(
        ["id", "tenant_id", "conversation_id", "turn_id", "position", "type", "role", "text", "created_at"],
        select(
            given(item, _items.c.id),
            OWN_TENANT,
            _locked.c.id,
            given("turn_id", _items.c.turn_id),
            _locked.c.length + offset,
            literal("message"),
            literal(role),
            given(text, _items.c.text),
            given("finished_at", _items.c.created_at),
        ),
    )


_REMEMBER = (
    update(_texts)
    .where(_texts.c.tenant_id == OWN_TENANT, _texts.c.turn_id == given("turn_id", _texts.c.turn_id))
    .values(response=given("response", _texts.c.response))
)
_SAY = (
    _said(0, "question_id", "user", "prompt"),
    _said(1, "answer_id", "assistant", "response"),
    update(_conversations).where(_conversation()).values(length=_conversations.c.length + 2),
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

_ending = (
    update(_turns)
    .where(
        _turns.c.tenant_id == OWN_TENANT,
        _turns.c.id == given("turn_id", _turns.c.id),
        _turns.c.status == TurnStatus.RUNNING.value,
    )
    .values({name: given(name, _turns.c[name]) for name in _ENDED})
    .returning(_turns.c.id)
)
_RELEASE = delete(_leases).where(_leases.c.turn_id == given("turn_id", _leases.c.turn_id))

# The row of each says whether the turn still ran; if not, somebody else has ended it, and all of this is taken back.
INTERRUPT = Prepared(_RELEASE, _ending)
REMEMBER = Prepared(_REMEMBER)
END = Prepared(_REMEMBER, _RELEASE, _ending)
END_SAID = Prepared(_REMEMBER, *_SAY, _RELEASE, _ending.where(_turns.c.conversation_id == _locked.c.id))


def is_busy(error: IntegrityError) -> bool:
    """Whether a turn could not begin because another one of its conversation runs."""
    # PostgreSQL names the constraint, SQLite its columns.
    message = str(error.orig)
    return "uq_turns_running" in message or "turns.tenant_id, turns.conversation_id" in message
