"""Ids of rows: UUIDv7 as 32 hex digits, which sort by the time they were made."""

from datetime import datetime, timedelta
from hashlib import blake2b

from uuid_utils import uuid7

from database.clock import EPOCH

MILLISECOND_DIGITS = 12


def new_id(at: datetime | None = None) -> str:
    """A new id that carries the time `at` (aware; now by default) to the millisecond."""
    if at is None:
        return uuid7().hex
    return uuid7(nanoseconds=(at - EPOCH) // timedelta(microseconds=1) * 1_000).hex


def first_id_at(at: datetime) -> str:
    """The smallest id that a row made at `at` (aware) can have: a bound for scans by id, not an id."""
    milliseconds = max(0, (at - EPOCH) // timedelta(milliseconds=1))
    return f"{milliseconds:012x}"[-MILLISECOND_DIGITS:] + "0" * 20


def millisecond(id_: str) -> str:
    """What of an id says when it was made: equal for all that were made in the same millisecond, and sorted alike."""
    return id_[:MILLISECOND_DIGITS]


def part_id(of: str, name: str) -> str:
    """The id of the part of that name of what has the id `of`: always the same, and of the same time."""
    random = blake2b(name.encode(), key=of.encode(), digest_size=10).hexdigest()
    return millisecond(of) + random
