"""What is used of limits, as a turn that begins now would find it."""

from datetime import UTC, datetime, timedelta

import pytest

from database.session import Database
from services.limit_service import Limits
from services.limit_use import limit_use
from services.limit_window import windows
from services.turn_log import TurnLog
from tests.conftest import TwoTenants
from tests.limited import RESERVED, begin, limit, limit_row
from tests.rows import a_limit

_AT = datetime(2026, 5, 31, 23, 59, 30, tzinfo=UTC)
_COUNTED = {"minute_requests": 1, "minute_tokens": 2, "day_tokens": 3, "month_tokens": 4, "running": 5}


@pytest.mark.parametrize(
    ("later", "counted"),
    [
        (timedelta(), [1, 2, 3, 4]),
        # The row's window, which a turn would have to wait for.
        (-timedelta(minutes=2), [1, 2, 3, 4]),
        # The row of a clock that was wrong: its windows are opened anew, but for those that are the same.
        (-timedelta(minutes=6), [0, 0, 3, 4]),
        (-timedelta(days=1), [0, 0, 0, 4]),
        (timedelta(minutes=1), [0, 0, 0, 0]),
        (timedelta(days=400), [0, 0, 0, 0]),
    ],
)
def test_what_was_counted_in_a_window_that_is_over_is_not_used(later: timedelta, counted: list[int]) -> None:
    current = windows(_AT)
    row = a_limit("a key", **_COUNTED, **{name: current[f"limit_{name}"] for name in ("minute", "day", "month")})
    use = limit_use(row, _AT + later)
    assert use.running == 5
    assert [
        use.requests_used_this_minute,
        use.tokens_used_this_minute,
        use.tokens_used_this_day,
        use.tokens_used_this_month,
    ] == counted


@pytest.mark.parametrize("later", [timedelta(minutes=number) for number in (0, -2, -6, -2000, 1, 2000)])
async def test_it_is_what_a_turn_finds(database: Database, tenants: TwoTenants, later: timedelta) -> None:
    log = TurnLog(database, owner="0" * 32, lease=timedelta(seconds=30))
    await limit(database, Limits(tokens_per_month=10**6))
    await begin(log, tenants.ours, created_at=_AT)
    expected = limit_use(await limit_row(database, tenants.ours), _AT + later)
    await begin(log, tenants.ours, created_at=_AT + later)
    found = limit_use(await limit_row(database, tenants.ours), _AT + later)
    assert found.running == expected.running + 1
    assert found.tokens_used_this_minute == expected.tokens_used_this_minute + RESERVED
    assert found.requests_used_this_minute == expected.requests_used_this_minute + 1
    assert found.tokens_used_this_day == expected.tokens_used_this_day + RESERVED
    assert found.tokens_used_this_month == expected.tokens_used_this_month + RESERVED
