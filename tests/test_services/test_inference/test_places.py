from itertools import pairwise

from services.inference.places import Places


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def wait(places: Places, tokens: int) -> float:
    """What a request that gets no place is told."""
    told = places.take("late", tokens)
    assert told is not None
    return told


def test_places_are_bounded_in_requests_and_in_tokens() -> None:
    places = Places(requests=2, tokens=100)
    assert places.take("a", 60) is None
    assert places.take("b", 41) is not None
    assert places.take("b", 40) is None
    assert places.take("c", 0) is not None
    places.free("a")
    assert places.take("c", 60) is None


def test_a_request_alone_gets_its_place_however_large_it_is() -> None:
    places = Places(requests=2, tokens=100)
    assert places.take("large", 1000) is None
    assert places.take("small", 1) is not None
    places.free("large")
    assert places.take("small", 1) is None


def test_when_to_try_again_follows_from_how_fast_places_were_freed() -> None:
    clock = Clock()
    places = Places(requests=10, tokens=1000, clock=clock)
    for name in range(10):
        places.take(str(name), 100)
    clock.now += 20
    for name in range(4):
        places.free(str(name))
        places.take(f"{name} again", 100)
    # Four in 20 s: one place takes 5 s, three places' tokens take 15 s.
    assert 5 <= wait(places, 100) < 10
    assert 15 <= wait(places, 300) < 30


def test_when_to_try_again_is_between_a_second_and_a_minute() -> None:
    clock = Clock()
    places = Places(requests=1, tokens=1000, clock=clock)
    places.take("a", 10)
    assert 1 <= wait(places, 10) < 2
    clock.now += 7
    assert 7 <= wait(places, 10) < 14
    clock.now += 1000
    assert wait(places, 10) == 60


def test_a_crowd_that_is_refused_is_told_to_come_back_one_by_one() -> None:
    clock = Clock()
    places = Places(requests=1, tokens=1000, clock=clock)
    places.take("a", 10)
    clock.now += 10
    waits = sorted(wait(places, 10) for _ in range(100))
    assert waits[0] == 10
    assert waits[-1] < 20
    assert max(later - sooner for sooner, later in pairwise(waits)) < 0.2


def test_what_was_freed_in_another_rush_says_nothing_about_this_one() -> None:
    clock = Clock()
    places = Places(requests=1, tokens=1000, clock=clock)
    for _ in range(300):
        places.take("a", 10)
        places.free("a")
    clock.now += 3600
    places.take("a", 10)
    clock.now += 8
    assert 8 <= wait(places, 10) < 16
