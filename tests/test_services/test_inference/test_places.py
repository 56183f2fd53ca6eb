from itertools import pairwise

import pytest

from services.inference.places import NoPlace, Places


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def wait(places: Places, tokens: int, tenant: str = "late", ceiling: int | None = None) -> float:
    """What a request that gets no place is told."""
    told = places.take("late", tenant, tokens, ceiling)
    assert told is not None
    assert told.by_ceiling == (ceiling is not None)
    return told.wait


def is_taken(places: Places, request: str, tenant: str, tokens: int = 1, ceiling: int | None = None) -> bool:
    return places.take(request, tenant, tokens, ceiling) is None


def test_places_are_bounded_in_requests_and_in_tokens() -> None:
    places = Places(requests=2, tokens=100)
    assert is_taken(places, "a", "t", 60)
    assert not is_taken(places, "b", "t", 41)
    assert is_taken(places, "b", "t", 40)
    assert not is_taken(places, "c", "t", 0)
    places.free("a")
    assert is_taken(places, "c", "t", 60)


def test_a_request_alone_gets_its_place_however_large_it_is() -> None:
    places = Places(requests=2, tokens=100)
    assert is_taken(places, "large", "t", 1000)
    assert not is_taken(places, "small", "t")
    places.free("large")
    assert is_taken(places, "small", "t")


@pytest.mark.parametrize(("requests", "most"), [(1, 1), (7, 7), (8, 7), (15, 14), (16, 14), (80, 70)])
def test_a_tenant_alone_can_take_all_places_but_an_eighth_rounded_down(requests: int, most: int) -> None:
    places = Places(requests=requests, tokens=10**6)
    assert sum(is_taken(places, str(number), "crowd") for number in range(100)) == most


def test_the_places_that_are_kept_are_for_tenants_that_hold_none_and_one_for_each() -> None:
    places = Places(requests=16, tokens=10**6)
    for number in range(14):
        assert is_taken(places, f"crowd {number}", "crowd")
    assert is_taken(places, "a", "a")
    assert not is_taken(places, "a, again", "a")
    assert is_taken(places, "b", "b")
    assert not is_taken(places, "c", "c")
    places.free("a")
    # Still one of the last two, of which it would be the crowd's fifteenth.
    assert not is_taken(places, "crowd", "crowd")
    assert is_taken(places, "c", "c")


def test_tenants_share_what_is_not_kept_as_they_come() -> None:
    places = Places(requests=16, tokens=10**6)
    assert sum(is_taken(places, str(number), "ab"[number % 2]) for number in range(16)) == 14


def test_an_eighth_of_the_tokens_is_kept_too() -> None:
    places = Places(requests=80, tokens=800)
    assert is_taken(places, "large", "crowd", 600)
    assert not is_taken(places, "too much", "crowd", 101)
    assert is_taken(places, "rest", "crowd", 100)
    assert not is_taken(places, "more", "crowd", 1)
    assert is_taken(places, "other", "other", 100)


def test_a_ceiling_bounds_a_tenant_and_nobody_else_while_the_queue_has_room() -> None:
    places = Places(requests=80, tokens=10**6)
    assert is_taken(places, "a", "narrow", ceiling=2)
    assert is_taken(places, "b", "narrow", ceiling=2)
    told = places.take("c", "narrow", 1, 2)
    assert told is not None
    assert told.by_ceiling
    assert is_taken(places, "d", "other")
    places.free("a")
    assert is_taken(places, "c", "narrow", ceiling=2)
    # A lower one holds from the next request on.
    assert not is_taken(places, "e", "narrow", ceiling=1)


def test_who_is_below_its_ceiling_is_told_that_the_queue_is_full() -> None:
    places = Places(requests=1, tokens=100)
    assert is_taken(places, "a", "t", ceiling=2)
    assert places.take("b", "t", 1, 2) == NoPlace(1.0, by_ceiling=False)


def test_when_to_try_again_follows_from_how_fast_places_were_freed() -> None:
    clock = Clock()
    places = Places(requests=10, tokens=1000, clock=clock)
    for name in range(10):
        places.take(str(name), str(name), 100)
    clock.now += 20
    for name in range(4):
        places.free(str(name))
        places.take(f"{name} again", str(name), 100)
    # Four in 20 s: one place takes 5 s, three places' tokens take 15 s.
    assert 5 <= wait(places, 100) < 10
    assert 15 <= wait(places, 300) < 30
    # Who holds one has to wait for that which is kept as well.
    assert 10 <= wait(places, 100, "9") < 20


def test_when_to_try_again_under_a_ceiling_follows_from_how_fast_ones_own_were_freed() -> None:
    clock = Clock()
    places = Places(requests=80, tokens=10**6, clock=clock)
    for number in range(40):
        places.take(f"other {number}", "other", 1)
    clock.now += 30
    for number in range(3):
        places.take(str(number), "narrow", 1, 3)
    clock.now += 8
    for number in range(40):
        places.free(f"other {number}")
    assert 8 <= wait(places, 1, "narrow", 3) < 16
    for number in range(2):
        places.free(str(number))
        places.take(f"{number} again", "narrow", 1, 3)
    assert 4 <= wait(places, 1, "narrow", 3) < 8
    assert 8 <= wait(places, 1, "narrow", 2) < 16


def test_when_to_try_again_is_between_a_second_and_a_minute() -> None:
    clock = Clock()
    places = Places(requests=1, tokens=1000, clock=clock)
    places.take("a", "t", 10)
    assert 1 <= wait(places, 10) < 2
    clock.now += 7
    assert 7 <= wait(places, 10) < 14
    clock.now += 1000
    assert wait(places, 10) == 60


def test_a_crowd_that_is_refused_is_told_to_come_back_one_by_one() -> None:
    clock = Clock()
    places = Places(requests=1, tokens=1000, clock=clock)
    places.take("a", "t", 10)
    clock.now += 10
    waits = sorted(wait(places, 10) for _ in range(100))
    assert waits[0] == 10
    assert waits[-1] < 20
    assert max(later - sooner for sooner, later in pairwise(waits)) < 0.2


def test_what_was_freed_in_another_rush_says_nothing_about_this_one() -> None:
    clock = Clock()
    places = Places(requests=1, tokens=1000, clock=clock)
    for _ in range(300):
        places.take("a", "t", 10)
        places.free("a")
    clock.now += 3600
    places.take("a", "t", 10)
    clock.now += 8
    assert 8 <= wait(places, 10) < 16
