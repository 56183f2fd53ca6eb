"""The statements on the text of resumable turns while they run."""

from typing import Any

from sqlalchemy import delete, literal, select

# SQLite takes the same, down to the letter.
from sqlalchemy.dialects.postgresql import insert

from database.models import Turn, TurnChunk, TurnStatus
from database.prepared import OWN_TENANT, Prepared, given

_turns: Any = Turn.__table__
_chunks: Any = TurnChunk.__table__
_turn_id = given("turn_id", _turns.c.id)
_of_the_turn = (_chunks.c.tenant_id == OWN_TENANT, _chunks.c.turn_id == _turn_id)

# The turn is locked against its end, so that no piece is left behind by a process that thinks it still runs.
_running = (
    select(OWN_TENANT, _turns.c.id, given("position", _chunks.c.position), given("text", _chunks.c.text))
    .where(_turns.c.tenant_id == OWN_TENANT, _turns.c.id == _turn_id, _turns.c.status == TurnStatus.RUNNING.value)
    .with_for_update(read=True)
)
_added = insert(_chunks).from_select(["tenant_id", "turn_id", "position", "text"], _running)
# A piece is written again, longer, when it was not known whether the first time succeeded.
ADD_CHUNK = Prepared(
    _added.on_conflict_do_update(
        index_elements=["tenant_id", "turn_id", "position"], set_={"text": _added.excluded.text}
    )
)
FORGET_CHUNKS = Prepared(delete(_chunks).where(*_of_the_turn))
# Position and text of the pieces from this position on, in order.
READ_CHUNKS = Prepared(
    select(_chunks.c.position, _chunks.c.text)
    .where(*_of_the_turn, _chunks.c.position >= given("position", _chunks.c.position))
    .order_by(_chunks.c.position)
)
# A row if the turn runs.
STILL_RUNS = Prepared(
    select(literal(1)).where(
        _turns.c.tenant_id == OWN_TENANT, _turns.c.id == _turn_id, _turns.c.status == TurnStatus.RUNNING.value
    )
)
