"""Ids sort by the time they were made, to the millisecond."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from database.identifier import first_id_at, new_id

_MILLISECOND = timedelta(milliseconds=1)
_times = st.datetimes(
    min_value=datetime(1970, 1, 1, 0, 0, 1),  # noqa: DTZ001 - the zone is the next argument
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def test_an_id_is_32_lower_case_hex_digits() -> None:
    made = new_id()
    assert len(made) == 32
    assert set(made) <= set("0123456789abcdef")


def test_ids_made_one_after_the_other_are_in_order_and_distinct() -> None:
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_ids_of_the_same_moment_are_distinct() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert len({new_id(at) for _ in range(1000)}) == 1000


@given(_times)
def test_the_bound_of_a_moment_separates_its_millisecond_from_the_one_before(at: datetime) -> None:
    exact = at.replace(microsecond=at.microsecond // 1000 * 1000)
    assert new_id(exact - timedelta(microseconds=1)) < first_id_at(exact) <= new_id(exact)
    assert new_id(exact) < first_id_at(exact + _MILLISECOND)


@given(_times)
def test_a_bound_within_a_millisecond_is_that_of_the_millisecond(at: datetime) -> None:
    assert first_id_at(at) == first_id_at(at.replace(microsecond=at.microsecond // 1000 * 1000))


def test_a_bound_does_not_depend_on_the_zone() -> None:
    at = datetime(2026, 1, 1, 8, tzinfo=timezone(timedelta(hours=8)))
    assert first_id_at(at) == first_id_at(datetime(2026, 1, 1, tzinfo=UTC))


def test_a_bound_before_ids_began_is_below_every_id() -> None:
    assert first_id_at(datetime(1, 1, 1, tzinfo=UTC)) == "0" * 32
    assert first_id_at(datetime.max.replace(tzinfo=UTC)) > new_id()
