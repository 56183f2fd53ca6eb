import logging
import queue
import random
import re
from collections.abc import Callable
from typing import cast

import pytest

from services.inference.engine import Delta, End, Event, Failed, SamplingParams
from services.inference.native.sequence import Chunk, Drawn, Sequence
from services.inference.watchdog import Watchdog
from tests.test_services.test_inference.test_native.driving import Driven, request


class Scripted:
    """A runner that draws what `token` says; raises what it raises."""

    lookahead = 0

    def __init__(self, token: Callable[[Sequence], int | None] = lambda sequence: len(sequence.output)) -> None:
        self.token = token

    def launch(self, chunks: list[Chunk]) -> Callable[[], Drawn]:
        drawn = Drawn([self.token(chunk.sequence) for chunk in chunks if chunk.samples])
        return lambda: drawn


class Ahead(Scripted):
    """A runner that starts a step before the one before it is read, and draws only when it is read."""

    lookahead = 1

    def launch(self, chunks: list[Chunk]) -> Callable[[], Drawn]:
        sampled = [chunk.sequence for chunk in chunks if chunk.samples]
        return lambda: Drawn([self.token(sequence) for sequence in sampled])


def test_an_answer_is_deltas_and_one_end_with_its_usage() -> None:
    driven = Driven(Scripted())
    driven.core.submit(request("r", [5, 6], 3))
    driven.finish()
    assert driven.events == [Delta("r", [0]), Delta("r", [1]), Delta("r", [2]), End("r", "length", 2, 0, 3)]


def test_a_stop_id_is_counted_and_not_delivered() -> None:
    driven = Driven(Scripted())
    driven.core.submit(request("r", max_tokens=3, sampling=SamplingParams(temperature=0, stop_ids=frozenset({2}))))
    driven.finish()
    assert driven.text("r") == [0, 1]
    assert driven.last("r") == End("r", "stop", 3, 0, 3)


def test_an_answer_of_one_stop_id_has_no_delta() -> None:
    driven = Driven(Scripted())
    driven.core.submit(request("r", sampling=SamplingParams(stop_ids=frozenset({0}))))
    driven.finish()
    assert driven.events == [End("r", "stop", 3, 0, 1)]


def test_all_events_of_a_step_come_together() -> None:
    driven = Driven(Scripted())
    for name in "abc":
        driven.core.submit(request(name))
    assert [event.id for event in driven.step()] == ["a", "b", "c"]


def test_an_aborted_answer_ends_within_two_steps_without_another_word() -> None:
    driven = Driven(Scripted(), max_running=1)
    driven.core.submit(request("runs", max_tokens=50))
    driven.core.submit(request("waits"))
    driven.step()
    driven.core.abort("runs")
    driven.core.abort("waits")
    after = [event for _ in range(5) for event in driven.step()]
    assert after == []
    assert driven.scheduler.idle
    assert driven.emptied


def test_aborting_what_has_ended_or_never_was_changes_nothing() -> None:
    driven = Driven(Scripted())
    driven.core.submit(request("r", max_tokens=1))
    driven.finish()
    driven.core.abort("r")
    driven.core.abort("never")
    driven.core.submit(request("next", max_tokens=1))
    driven.finish()
    assert driven.last("next") == End("next", "length", 3, 0, 1)


def test_an_unusable_row_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    driven = Driven(Scripted(lambda sequence: None if sequence.request.id == "bad" else 1))
    driven.core.submit(request("bad"))
    driven.core.submit(request("good"))
    driven.finish()
    assert driven.last("bad") == Failed("bad", "generation_failed", driven_message(driven, "bad"), retryable=True)
    assert driven.text("good") == [1, 1, 1, 1]
    assert "bad" in caplog.text


def driven_message(driven: Driven, name: str) -> str:
    last = driven.last(name)
    assert isinstance(last, Failed)
    return last.message


def test_a_step_that_raises_fails_what_was_in_it_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def token(sequence: Sequence) -> int:
        if sequence.request.id == "poison":
            raise RuntimeError("secret detail")
        return 1

    driven = Driven(Scripted(token), max_running=2)
    for name in ("poison", "beside", "waits"):
        driven.core.submit(request(name, max_tokens=2))
    with caplog.at_level(logging.ERROR):
        driven.finish()
    for name in ("poison", "beside"):
        last = driven.last(name)
        assert isinstance(last, Failed)
        assert (last.kind, last.retryable) == ("generation_failed", True)
        assert "secret" not in last.message
    assert driven.last("waits") == End("waits", "length", 3, 0, 2)
    assert "secret detail" in caplog.text
    assert driven.lost == 0
    assert driven.emptied


def test_a_lost_device_fails_everything_and_is_reported() -> None:
    def token(sequence: Sequence) -> int:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    driven = Driven(Scripted(token), max_running=1)
    events: queue.Queue[list[Event]] = queue.Queue()
    driven.core.submit(request("runs"))
    driven.core.submit(request("waits"))
    driven.core.start(events.put)
    failed = events.get(timeout=60)
    driven.core.close()
    assert [(event.id, event.kind) for event in failed if isinstance(event, Failed)] == [
        ("runs", "engine_lost"),
        ("waits", "engine_lost"),
    ]
    assert driven.lost == 1


def test_a_loop_that_breaks_is_reported_and_not_silent(caplog: pytest.LogCaptureFixture) -> None:
    def emit(events: list[Event]) -> None:
        raise RuntimeError("nobody listens")

    driven = Driven(Scripted())
    driven.core.start(emit)
    driven.core.submit(request("r"))
    assert driven.core._thread is not None
    driven.core._thread.join(timeout=60)
    assert driven.lost == 1
    assert "nobody listens" in caplog.text


@pytest.mark.parametrize("prompt", [[1, 97], [-1], [10**12]])
def test_a_token_outside_the_vocabulary_never_reaches_the_model(prompt: list[int]) -> None:
    driven = Driven(Scripted())
    driven.core.submit(request("r", prompt))
    driven.finish()
    last = driven.last("r")
    assert isinstance(last, Failed)
    assert (last.kind, last.retryable) == ("invalid_request", False)


def test_a_request_that_can_never_fit_fails_and_the_next_runs() -> None:
    driven = Driven(Scripted(), blocks=5, block_size=2)
    driven.core.submit(request("large", max_tokens=8))
    driven.core.submit(request("small", max_tokens=1))
    driven.finish()
    last = driven.last("large")
    assert isinstance(last, Failed)
    assert (last.kind, last.retryable) == ("context_length_exceeded", False)
    assert driven.last("small") == End("small", "length", 3, 0, 1)


def test_a_request_past_its_deadline_fails_and_may_be_retried() -> None:
    driven = Driven(Scripted())
    driven.core.submit(request("late", deadline=0.0))
    driven.finish()
    last = driven.last("late")
    assert isinstance(last, Failed)
    assert (last.kind, last.retryable) == ("deadline", True)


@pytest.mark.parametrize("kind", [Scripted, Ahead])
def test_every_request_ends_exactly_once_unless_it_was_aborted(kind: type[Scripted]) -> None:
    chance = random.Random(1)
    driven = Driven(kind(lambda _: chance.choice([1, 1, 1, 9, None])), blocks=16)
    aborted = set()
    answers: list[int] = []
    for index in range(300):
        stop = SamplingParams(stop_ids=frozenset({9}))
        prompt, n = [1] * chance.randint(1, 20), chance.choice([1, 1, 1, 2, 5])
        driven.core.submit(request(str(index), prompt, chance.randint(1, 9), sampling=stop, n=n))
        answers.append(n)
        if chance.random() < 0.3:
            aborted.add(str(chance.randint(0, index)))
            driven.core.abort(max(aborted, key=int))
        if chance.random() < 0.7:
            driven.step()
    driven.finish()
    failed = [event.id for event in driven.events if isinstance(event, Failed)]
    ended = [(event.id, event.index) for event in driven.events if isinstance(event, End)]
    assert len(failed) == len(set(failed))
    assert len(ended) == len(set(ended))
    whole = {str(index) for index, n in enumerate(answers) if {(str(index), each) for each in range(n)} <= set(ended)}
    assert not whole & set(failed)
    assert whole | set(failed) | aborted == {str(index) for index in range(300)}
    assert not driven.core._answers._open
    assert driven.emptied


def test_the_thread_generates_and_stops_when_closed() -> None:
    driven = Driven(Scripted())
    events: queue.Queue[list[Event]] = queue.Queue()
    driven.core.start(events.put)
    driven.core.submit(request("r", max_tokens=2))
    seen = [event for _ in range(2) for event in events.get(timeout=60)]
    driven.core.close()
    assert seen == [Delta("r", [0]), Delta("r", [1]), End("r", "length", 3, 0, 2)]
    assert driven.core.limits.vocabulary == 97


def test_with_a_step_started_ahead_answers_are_the_same() -> None:
    driven = Driven(Ahead())
    for name in "abc":
        driven.core.submit(request(name, [5, 6], 3))
    driven.core.submit(request("stops", max_tokens=9, sampling=SamplingParams(stop_ids=frozenset({2}))))
    driven.finish()
    assert [driven.text(name) for name in "abc"] == [[0, 1, 2]] * 3
    assert driven.text("stops") == [0, 1]
    assert driven.last("stops") == End("stops", "stop", 3, 0, 3)
    assert driven.emptied


def test_what_is_aborted_with_a_step_under_way_says_nothing_more() -> None:
    driven = Driven(Ahead())
    driven.core.submit(request("r", max_tokens=50))
    driven.step()
    driven.step()
    driven.core.abort("r")
    driven.core.submit(request("r", max_tokens=2))
    driven.events.clear()
    driven.finish()
    assert driven.events == [Delta("r", [0]), Delta("r", [1]), End("r", "length", 3, 0, 2)]
    assert driven.emptied


class Watched:
    """A watchdog that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def step(self) -> None:
        self.told.append("step")

    def rest(self) -> None:
        self.told.append("rest")


def test_a_watchdog_hears_of_each_step_and_of_each_rest() -> None:
    watched = Watched()
    driven = Driven(Scripted())
    driven.core._watchdog = cast("Watchdog", watched)
    events: queue.Queue[list[Event]] = queue.Queue()
    driven.core.start(events.put)
    driven.core.submit(request("r", max_tokens=3))
    for _ in range(3):
        events.get(timeout=60)
    driven.core.close()
    told = "".join(each[0] for each in watched.told)
    assert re.fullmatch("r*s{3}r+", told)
