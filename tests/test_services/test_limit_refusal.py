"""What is told to whom limits refuse, and when it says that trying again makes sense."""

from datetime import UTC, datetime, timedelta

import pytest

from app.common.errors import RateLimited
from database.models import TurnStatus
from database.repositories.limit_statements import COLUMNS, METERS
from database.session import Database
from services.allowance import allowance
from services.limit_service import Limits
from services.turn_log import TurnLog
from tests.conftest import TwoTenants
from tests.limited import RESERVED, USED, begin, end, limit, refusal

_NOON = datetime(2126, 11, 22, 12, 0, 20, tzinfo=UTC)
# With the prompt's, all that was reserved.
_ALL = RESERVED - 5


@pytest.fixture
def log(database: Database) -> TurnLog:
    return TurnLog(database, owner="0" * 32, lease=timedelta(seconds=30))


@pytest.mark.parametrize(
    ("limits", "code", "waits"),
    [
        ({"requests_per_minute": 1}, "rate_limit_exceeded", 40),
        ({"tokens_per_minute": RESERVED}, "rate_limit_exceeded", 40),
        ({"tokens_per_month": RESERVED}, "insufficient_quota", None),
        ({"tokens_per_day": RESERVED}, "insufficient_quota", None),
        ({"requests_per_minute": 1, "tokens_per_month": RESERVED}, "insufficient_quota", None),
    ],
)
async def test_a_refusal_says_whether_waiting_helps(
    database: Database, tenants: TwoTenants, log: TurnLog, limits: dict[str, int], code: str, waits: int | None
) -> None:
    await limit(database, Limits(**limits))
    turn = await begin(log, tenants.ours, created_at=_NOON)
    await end(log, tenants.ours, turn, TurnStatus.COMPLETED, _ALL)
    refused = await refusal(log, tenants.ours, created_at=_NOON)
    assert (refused.code, refused.retry_after) == (code, waits)


async def test_a_turn_more_at_once_may_be_tried_again_at_once(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    await limit(database, Limits(turns_at_once=1))
    await begin(log, tenants.ours, created_at=_NOON)
    refused = await refusal(log, tenants.ours, created_at=_NOON)
    assert (refused.code, refused.retry_after) == ("rate_limit_exceeded", 1)


@pytest.mark.parametrize("name", ["tokens_per_day", "tokens_per_month"])
async def test_a_quota_that_running_turns_have_reserved_is_not_called_used_up(
    database: Database, tenants: TwoTenants, log: TurnLog, name: str
) -> None:
    await limit(database, Limits(**{name: RESERVED + USED}))
    turn = await begin(log, tenants.ours, created_at=_NOON)
    refused = await refusal(log, tenants.ours, created_at=_NOON)
    assert (refused.code, refused.retry_after) == ("rate_limit_exceeded", 1)
    assert f"{USED} of the tokens" in refused.message
    await end(log, tenants.ours, turn, TurnStatus.COMPLETED)
    # It was worth waiting for.
    await end(log, tenants.ours, await begin(log, tenants.ours, created_at=_NOON), TurnStatus.COMPLETED)
    # Nobody reserves anything now: what is left does not become more.
    refused = await refusal(log, tenants.ours, created_at=_NOON)
    assert (refused.code, refused.retry_after) == ("insufficient_quota", None)
    assert f"{RESERVED - USED} of the tokens" in refused.message
    assert f"may take {RESERVED}" in refused.message


@pytest.mark.parametrize("name", ["tokens_per_minute", "tokens_per_day", "tokens_per_month"])
async def test_a_request_larger_than_a_limit_is_told_that_waiting_is_in_vain(
    database: Database, tenants: TwoTenants, log: TurnLog, name: str
) -> None:
    await limit(database, Limits(**{name: RESERVED - 1}))
    refused = await refusal(log, tenants.ours, created_at=_NOON)
    assert refused.retry_after is None
    assert f"may take {RESERVED} tokens" in refused.message


@pytest.mark.parametrize(
    ("name", "late"),
    [
        ("tokens_per_day", datetime(2126, 11, 22, 23, 59, 30, tzinfo=UTC)),
        ("tokens_per_month", datetime(2126, 11, 30, 23, 59, 30, tzinfo=UTC)),
        ("tokens_per_month", datetime(2126, 12, 31, 23, 59, 30, tzinfo=UTC)),
        ("tokens_per_month", datetime(2128, 2, 29, 23, 59, 30, tzinfo=UTC)),
    ],
)
async def test_the_end_of_a_day_or_month_that_is_near_is_worth_waiting_for(
    database: Database, tenants: TwoTenants, log: TurnLog, name: str, late: datetime
) -> None:
    await limit(database, Limits(**{name: RESERVED}))
    early = late - timedelta(seconds=31)
    await end(log, tenants.ours, await begin(log, tenants.ours, created_at=early), TurnStatus.COMPLETED, _ALL)
    assert (await refusal(log, tenants.ours, created_at=early)).retry_after is None
    assert (await refusal(log, tenants.ours, created_at=late)).retry_after == 30
    await begin(log, tenants.ours, created_at=late + timedelta(seconds=30))


_Row = dict[str, int]


def _row(limits: _Row, **used: int) -> list[object]:
    """Of which everything is used once, and this is asked for besides."""
    counted = dict.fromkeys(METERS.values(), 0) | {"minute_requests": 2, "minute_tokens": 20, "running": 2}
    values: dict[str, int] = counted | {"day_tokens": 20, "month_tokens": 20} | used | limits
    exceeded = any(values[used] > limits[limit] for limit, used in METERS.items() if limit in limits)
    return [*(values.get(name) for name in COLUMNS), not exceeded]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "waits"),
    [
        (_row({"requests_per_minute": 1}), _row({"tokens_per_month": 10}, running=1), None),
        (_row({"requests_per_minute": 1}), _row({"tokens_per_minute": 9}), None),
        (_row({"turns_at_once": 1}), _row({"requests_per_minute": 1}), 40),
        (_row({"turns_at_once": 1}), _row({"requests_per_minute": 5}), 1),
    ],
)
def test_of_the_limits_of_tenant_and_key_that_one_is_told_which_keeps_longest(
    one: list[object], other: list[object], waits: int | None, turned: bool
) -> None:
    with pytest.raises(RateLimited) as refused:
        allowance([other, one] if turned else [one, other], 10, _NOON)
    assert refused.value.retry_after == waits
