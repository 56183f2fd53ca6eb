"""When an engine is asked that is lost again and again, and what those hear who are not let through."""

import pytest

from services.inference.circuit_breaker import CircuitBreaker


class Clock:
    """Goes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock)


def lose(breaker: CircuitBreaker, clock: Clock, *, times: int, each: float) -> None:
    for _ in range(times):
        breaker.lost()
        clock.now += each
        breaker.came()


def test_nobody_passes_before_the_engine_has_come(breaker: CircuitBreaker) -> None:
    assert not breaker.enter("a")
    breaker.came()
    assert all([breaker.enter("a"), breaker.enter("b"), breaker.enter("c")])


def test_who_is_refused_hears_to_wait_as_long_again_as_it_was_away(breaker: CircuitBreaker, clock: Clock) -> None:
    begun = clock.now
    told = []
    for away in (0.1, 1, 5, 40, 600):
        clock.now = begun + away
        told.append(breaker.retry_after)
    assert told == [1, 1, 5, 40, 60]


def test_an_engine_that_took_long_to_come_is_expected_to_take_as_long_again(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    clock.now += 40
    breaker.came()
    breaker.lost()
    told = []
    for _ in range(3):
        told.append(breaker.retry_after)
        clock.now += 15
    assert told == [40, 25, 30]


def test_an_engine_lost_once_is_trusted_when_it_is_back(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.came()
    lose(breaker, clock, times=1, each=1)
    assert all([breaker.enter("a"), breaker.enter("b")])


def test_an_engine_lost_twice_is_tried_with_one_request_at_a_time(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.came()
    lose(breaker, clock, times=2, each=1)
    assert breaker.enter("a")
    assert not breaker.enter("b")
    assert breaker.retry_after == 2
    breaker.leave("a", answered=False)
    assert breaker.enter("b")
    breaker.leave("b", answered=True)
    assert all([breaker.enter("c"), breaker.enter("d")])


def test_what_begins_together_is_on_trial_together(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.came()
    lose(breaker, clock, times=2, each=1)
    assert all([breaker.enter("list"), breaker.enter("list"), breaker.enter("list")])
    assert not breaker.enter("b")
    for _ in range(2):
        breaker.leave("list", answered=False)
        assert not breaker.enter("b")
    # The last of them was given up too: nothing is known, and another is tried.
    breaker.leave("list", answered=False)
    assert breaker.enter("b")
    assert not breaker.enter("list")


def test_a_long_answer_on_trial_keeps_others_away_for_some_seconds_only(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.came()
    lose(breaker, clock, times=2, each=1)
    assert breaker.enter("a")
    clock.now += 4
    assert not breaker.enter("b", trial_speaks=True)
    clock.now += 2
    assert not breaker.enter("b", trial_speaks=False)
    assert breaker.enter("b", trial_speaks=True)
    assert breaker.enter("c")


def test_a_trial_that_the_engine_does_not_outlive_proves_nothing(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.came()
    lose(breaker, clock, times=2, each=1)
    assert breaker.enter("a")
    breaker.lost()
    breaker.leave("a", answered=True)
    breaker.came()
    assert breaker.enter("b")
    assert not breaker.enter("c")


def test_losses_in_a_row_count_as_one_absence_and_an_answer_ends_it(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.came()
    lose(breaker, clock, times=5, each=4)
    breaker.lost()
    assert breaker.retry_after == 20
    breaker.came()
    assert breaker.enter("a")
    breaker.leave("a", answered=True)
    clock.now += 1000
    breaker.lost()
    clock.now += 15
    assert breaker.retry_after == 15


def test_an_engine_that_was_there_for_long_is_lost_anew_even_if_nobody_asked_it(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.came()
    for _ in range(3):
        clock.now += 3600
        lose(breaker, clock, times=1, each=1)
    assert all([breaker.enter("a"), breaker.enter("b")])
    clock.now += 3600
    breaker.lost()
    assert breaker.retry_after == 1


def test_who_was_not_lost_before_it_came_is_not_flaky(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        breaker.lost()
    breaker.came()
    assert all([breaker.enter("a"), breaker.enter("b")])
