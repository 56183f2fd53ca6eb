"""What a turn does to the limits of its key and tenant: charged when it begins, settled when it ends."""

from typing import Any

from sqlalchemy import Select, Update, and_, case, func, not_, or_, select, update

from database.models import Limit
from database.prepared import OWN_TENANT, given

_limits: Any = Limit.__table__
_WINDOWS = ("minute", "day", "month")
# A row that is further ahead than this was written by a clock that is wrong.
FARTHEST_MINUTES = 5
# Each limit, and what must not be more than it.
METERS = {
    "requests_per_minute": "minute_requests",
    "tokens_per_minute": "minute_tokens",
    "turns_at_once": "running",
    "tokens_per_day": "day_tokens",
    "tokens_per_month": "month_tokens",
}
# What a row that a turn charges tells, in this order; then `ok`.
COLUMNS = (*METERS, *METERS.values(), *_WINDOWS)


def _own() -> Any:
    """Rows of the tenant and of the key, as a condition."""
    columns = _limits.c
    of_key = columns.subject == given("limit_subject", columns.subject)
    return and_(columns.tenant_id == OWN_TENANT, or_(columns.subject == OWN_TENANT, of_key))


def _locked(*columns: Any) -> Select[Any]:
    # In order: two turns that met in opposite orders would block each other for ever.
    return select(*columns).where(_own()).order_by(_limits.c.subject).with_for_update()


def _is_wrong() -> Any:
    minute = _limits.c.minute
    # Set on the left, where PostgreSQL takes the type of the parameter from.
    return minute - FARTHEST_MINUTES > given("limit_minute", minute)


def _goes_on(window: str) -> Any:
    """Whether the row's window is the one that is asked for, or a later one which that has to follow."""
    column = _limits.c[window]
    asked = given(f"limit_{window}", column)
    # Never back: a process whose clock is behind must not open a window anew that others have used up. But a month
    # ahead, a row would keep its tenant out for a month.
    return or_(column == asked, and_(column > asked, not_(_is_wrong())))


def _charged() -> dict[str, Any]:
    columns = _limits.c
    tokens, turns = given("reserved_tokens", columns.minute_tokens), given("charged_turns", columns.running)
    changed: dict[str, Any] = {"running": columns.running + turns}
    for window in _WINDOWS:
        asked = given(f"limit_{window}", columns[window])
        changed[window] = case((_goes_on(window), columns[window]), else_=asked)
        changed[f"{window}_tokens"] = case((_goes_on(window), columns[f"{window}_tokens"]), else_=0) + tokens
    changed["minute_requests"] = case((_goes_on("minute"), columns.minute_requests), else_=0) + turns
    return changed


def _settled() -> dict[str, Any]:
    columns = _limits.c
    unused = given("unused_tokens", columns.minute_tokens)
    ended = given("ended_turns", columns.running)
    changed: dict[str, Any] = {"running": case((columns.running > ended, columns.running - ended), else_=0)}
    for window in _WINDOWS:
        used = columns[f"{window}_tokens"]
        same = columns[window] == given(f"limit_{window}", columns[window])
        changed[f"{window}_tokens"] = case((same, used - unused), else_=used)
    return changed


def _chargeable() -> Select[Any]:
    columns, used = _limits.c, _charged()
    told = [(used[name] if name in used else columns[name]).label(name) for name in COLUMNS]
    # A process whose clock is behind must come again with the minute of the row.
    in_its_minute = or_(columns.minute <= given("limit_minute", columns.minute), _is_wrong())
    fits = and_(
        in_its_minute, *(or_(columns[limit].is_(None), used[name] <= columns[limit]) for limit, name in METERS.items())
    )
    return _locked(*told, fits.label("ok"))


# The rows as they would be with this turn, or with these, locked; not `ok` where it is too much. All turns of a tenant
# wait for them until the transaction ends.
CHARGEABLE = _chargeable()
CHARGE: Update = update(_limits).where(_own()).values(_charged())
LIMITS_LOCKED = select(func.count()).select_from(_locked(_limits.c.subject).subquery()).scalar_subquery() >= 0
UNCHARGE: Update = update(_limits).where(_own()).values(_settled())
