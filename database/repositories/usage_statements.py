"""What a turn that ended gives back to its limits, and adds to its tenant's usage."""

from typing import Any

# SQLite takes the same, down to the letter.
from sqlalchemy.dialects.postgresql import insert

from database.models import Usage
from database.prepared import OWN_TENANT, Statement, given
from database.repositories.limit_statements import UNCHARGE

_usage: Any = Usage.__table__
SUMS = (
    "requests",
    "cancelled",
    "failed",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "first_token_ms",
    "duration_ms",
)
_added = insert(_usage).values(
    tenant_id=OWN_TENANT, **{name: given(name, _usage.c[name]) for name in ("day", "key_id", "model", *SUMS)}
)

# All turns of a tenant wait for these rows until the transaction ends.
SETTLE: tuple[Statement, ...] = (
    UNCHARGE,
    _added.on_conflict_do_update(
        index_elements=["tenant_id", "day", "key_id", "model"],
        set_={name: _usage.c[name] + _added.excluded[name] for name in SUMS},
    ),
)
