"""How a request under an idempotency key is claimed: a single statement, since it comes before the turn."""

from typing import Any

from sqlalchemy import Text, and_, case, cast, null, or_, select

# SQLite takes the same, down to the letter.
from sqlalchemy.dialects.postgresql import insert

from database.models import IdempotencyKey
from database.prepared import OWN_TENANT, Prepared, given

_keys: Any = IdempotencyKey.__table__
_columns = _keys.c
_CLAIMED = ("fingerprint", "attempt", "owner", "created_at", "expires_at")
# JSON as text: PostgreSQL's driver would read it, SQLite's would not.
_headers = cast(_columns.headers, Text)
_told = (_columns.fingerprint, _columns.attempt, _columns.status, _headers, _columns.body)

_given = {name: given(name, _columns[name]) for name in ("key", *_CLAIMED)}
_claim = insert(_keys).values(tenant_id=OWN_TENANT, **_given)
_at = _given["created_at"]
_is_answered = _columns.status.is_not(None)
# An attempt of the instance's own is from a former life: of one key it has one recording, and that one asks.
_is_void = or_(
    and_(_is_answered, _columns.created_at < given("kept_since", _columns.created_at)),
    and_(~_is_answered, or_(_columns.expires_at < _at, _columns.owner == given("owner", _columns.owner))),
)
# Whose attempt comes back has it. Whoever answers meanwhile is told that the answer is waited for. No row for a request
# that has its answer.
CLAIM = Prepared(
    _claim.on_conflict_do_update(
        index_elements=["tenant_id", "key"],
        where=or_(_is_void, ~_is_answered),
        set_={
            **{name: case((_is_void, _claim.excluded[name]), else_=_columns[name]) for name in _CLAIMED},
            "heard_at": case((_is_void, null()), else_=_at),
            **dict.fromkeys(("status", "headers", "body", "turn_id"), null()),
        },
    ).returning(*_told)
)
READ = Prepared(
    select(*_told).where(_columns.tenant_id == OWN_TENANT, _columns.key == given("key", _columns.key), _is_answered)
)
