"""Limits as a turn meets them: what it is charged, whether that fits, and what is left."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.common.errors import RateLimited
from database.clock import EPOCH
from database.repositories.limit_statements import COLUMNS, METERS

_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
_LONGEST_WAIT = 60.0


def windows(at: datetime) -> dict[str, int]:
    """The numbers of the minute, day and month (UTC) of an aware time, as parameters of the statements."""
    past = at - EPOCH
    return {"limit_minute": past // _MINUTE, "limit_day": past // _DAY, "limit_month": at.year * 12 + at.month - 1}


def minute_began(number: int) -> datetime:
    """When the minute of that number began."""
    return EPOCH + number * _MINUTE


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit of requests or tokens a minute: how much there is, and how much of it is left."""

    limit: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller may still do in this minute; None where nothing limits.

    Attributes:
        reset: seconds until the minute ends and all of it is there again.
    """

    requests: Meter | None
    tokens: Meter | None
    reset: float

    def headers(self) -> dict[str, str]:
        """As OpenAI's clients know them."""
        found = {}
        for name, meter in (("requests", self.requests), ("tokens", self.tokens)):
            if meter is not None:
                found[f"x-ratelimit-limit-{name}"] = str(meter.limit)
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, meter.remaining))
                found[f"x-ratelimit-reset-{name}"] = f"{math.ceil(self.reset * 1000)}ms"
        return found


def allowance(charged: Sequence[Sequence[Any]], tokens: int, at: datetime) -> Allowance:
    """What is left once a turn of so many tokens is charged.

    Args:
        charged: rows of `CHARGEABLE`, of the tenant and of the key as far as they have limits, this turn included.
        tokens: what this turn was charged.
        at: when; of the minute of the rows.

    Raises RateLimited if that is too much for one of them.
    """
    rows = [dict(zip((*COLUMNS, "ok"), row, strict=True)) for row in charged]
    minute_ends = minute_began(windows(at)["limit_minute"] + 1)
    reset = (minute_ends - at).total_seconds()
    for row in rows:
        if not row["ok"]:
            raise _refusal(row, tokens, at, reset)
    return Allowance(
        _tightest(rows, "requests_per_minute", "minute_requests"),
        _tightest(rows, "tokens_per_minute", "minute_tokens"),
        reset,
    )


def _tightest(rows: Sequence[Mapping[str, Any]], limit: str, used: str) -> Meter | None:
    meters = [Meter(row[limit], row[limit] - row[used]) for row in rows if row[limit] is not None]
    return min(meters, key=lambda meter: meter.remaining, default=None)


def _refusal(row: Mapping[str, Any], tokens: int, at: datetime, reset: float) -> RateLimited:
    """Why a row does not allow a turn, and when it may."""
    meters = Allowance(
        _tightest([row], "requests_per_minute", "minute_requests"),
        _tightest([row], "tokens_per_minute", "minute_tokens"),
        reset,
    ).headers()
    for limit in ("tokens_per_minute", "tokens_per_day", "tokens_per_month"):
        if row[limit] is not None and tokens > row[limit]:
            name = limit.replace("_", " ")
            return RateLimited(
                f"This request may take {tokens} tokens, more than the limit of {row[limit]} {name}.", headers=meters
            )
    exceeded = {limit for limit, used in METERS.items() if row[limit] is not None and row[used] > row[limit]}
    if "tokens_per_month" in exceeded:
        return RateLimited("The tokens of this month are used up.", code="insufficient_quota", headers=meters)
    if "tokens_per_day" in exceeded:
        wait = (EPOCH + (windows(at)["limit_day"] + 1) * _DAY - at).total_seconds()
        return RateLimited(
            "The tokens of this day are used up.",
            code="insufficient_quota",
            retry_after=wait if wait <= _LONGEST_WAIT else None,
            headers=meters,
        )
    for limit in ("requests_per_minute", "tokens_per_minute"):
        if limit in exceeded:
            name = limit.replace("_", " ")
            return RateLimited(f"The limit is {row[limit]} {name}.", retry_after=reset, headers=meters)
    return RateLimited(f"The limit is {row['turns_at_once']} turns at once.", retry_after=1, headers=meters)
