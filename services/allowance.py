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


def allowance(charged: Sequence[Sequence[Any]], tokens: int, at: datetime, *, turns: int = 1) -> Allowance:
    """What is left once so many turns, of so many tokens together, are charged.

    Args:
        charged: rows of `CHARGEABLE`, of the tenant and of the key as far as they have limits, these turns included.
        tokens: what these turns were charged.
        at: when; of the minute of the rows.
        turns: how many begin together.

    Raises RateLimited if that is too much for one of them.
    """
    rows = [dict(zip((*COLUMNS, "ok"), row, strict=True)) for row in charged]
    minute_ends = minute_began(windows(at)["limit_minute"] + 1)
    reset = (minute_ends - at).total_seconds()
    for row in rows:
        if not row["ok"]:
            raise _refusal(row, _Asked(turns, tokens), at, reset)
    return Allowance(
        _tightest(rows, "requests_per_minute", "minute_requests"),
        _tightest(rows, "tokens_per_minute", "minute_tokens"),
        reset,
    )


def _tightest(rows: Sequence[Mapping[str, Any]], limit: str, used: str) -> Meter | None:
    meters = [Meter(row[limit], row[limit] - row[used]) for row in rows if row[limit] is not None]
    return min(meters, key=lambda meter: meter.remaining, default=None)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for at once, and not given."""

    turns: int
    tokens: int

    def too_much(self, limits: Mapping[str, Any]) -> str | None:
        """Why it is never given, however long one waits; None if it may be."""
        for limit in METERS:
            of_tokens = limit.startswith("tokens")
            most, asked = limits[limit], self.tokens if of_tokens else self.turns
            if most is None or asked <= most:
                continue
            name = limit.replace("_", " ")
            if of_tokens:
                return f"This request may take {asked} tokens, more than the limit of {most} {name}."
            if asked == 1:
                return f"The limit is {most} {name}."
            return f"This request has {asked} prompts, more than the limit of {most} {name}."
        return None


def _refusal(row: Mapping[str, Any], asked: _Asked, at: datetime, reset: float) -> RateLimited:
    """Why a row does not allow what is asked, and when it may."""
    # Nothing of it was charged.
    before = {
        **row,
        "minute_requests": row["minute_requests"] - asked.turns,
        "minute_tokens": row["minute_tokens"] - asked.tokens,
    }
    meters = Allowance(
        _tightest([before], "requests_per_minute", "minute_requests"),
        _tightest([before], "tokens_per_minute", "minute_tokens"),
        reset,
    ).headers()
    if (why := asked.too_much(row)) is not None:
        return RateLimited(why, headers=meters)
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
