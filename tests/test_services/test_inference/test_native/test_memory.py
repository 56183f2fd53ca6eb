"""Steps without memory: tried again in smaller ones, and given up when that does not help."""

import random
from collections.abc import Callable

import pytest

from services.inference.engine import End, Failed
from services.inference.native.sequence import Chunk, Drawn
from tests.test_services.test_inference.test_native.driving import Driven, request
from tests.test_services.test_inference.test_native.test_core import Ahead, Scripted


class Short:
    """A runner that has no memory for a step when the test says so; remembers the sizes of those it was asked for."""

    def __init__(self, runner: Scripted, lacks: Callable[[list[Chunk]], bool]) -> None:
        self._runner = runner
        self._lacks = lacks
        self.lookahead = runner.lookahead
        self.asked: list[int] = []

    def launch(self, chunks: list[Chunk]) -> Callable[[], Drawn]:
        self.asked.append(sum(chunk.count for chunk in chunks))
        if self._lacks(chunks):
            raise MemoryError
        return self._runner.launch(chunks)


@pytest.mark.parametrize("kind", [Scripted, Ahead])
def test_memory_that_is_short_for_a_moment_is_felt_by_nobody(kind: type[Scripted]) -> None:
    chance = random.Random(5)
    steps = iter(range(10_000))
    # Never three times in a row.
    runner = Short(kind(), lambda _: next(steps) % 3 != 0 and chance.random() < 0.5)
    driven = Driven(runner, blocks=24)
    for index in range(60):
        driven.core.submit(request(str(index), [1] * chance.randint(1, 20), chance.randint(1, 9)))
        driven.step()
    driven.finish()
    assert [event for event in driven.events if isinstance(event, Failed)] == []
    ends = {event.id: event for event in driven.events if isinstance(event, End)}
    assert len(ends) == 60
    for name, end in ends.items():
        assert driven.text(name) == list(range(end.completion_tokens))
    assert driven.emptied
    assert driven.lost == 0


def test_a_prompt_too_large_for_the_memory_is_computed_in_smaller_parts() -> None:
    runner = Short(Scripted(), lambda chunks: sum(chunk.count for chunk in chunks) > 16)
    driven = Driven(runner, max_running=2, max_step_tokens=32)
    driven.core.submit(request("long", [1] * 60, 2))
    driven.finish()
    assert driven.text("long") == [0, 1]
    assert runner.asked[:3] == [32, 16, 16]
    assert driven.lost == 0


def test_after_a_while_steps_are_as_large_as_before() -> None:
    once = iter([True])
    runner = Short(Scripted(), lambda _: next(once, False))
    driven = Driven(runner, blocks=400, max_running=2, max_step_tokens=32)
    for token, name in enumerate(("first", "second")):
        driven.core.submit(request(name, [token] * 60, 1100))
        driven.finish()
    assert runner.asked[1] == 16
    assert max(runner.asked[2:]) == 32
    assert driven.text("second") == list(range(1100))


def test_a_request_that_no_memory_suffices_for_fails_and_the_next_ones_do_not() -> None:
    runner = Short(Scripted(), lambda chunks: any(chunk.sequence.request.id == "greedy" for chunk in chunks))
    driven = Driven(runner)
    for name in ("greedy", "next"):
        driven.core.submit(request(name, max_tokens=2))
        driven.finish()
    failed = driven.last("greedy")
    assert isinstance(failed, Failed)
    assert (failed.kind, failed.retryable) == ("generation_failed", True)
    assert driven.last("next") == End("next", "length", 3, 0, 2)
    assert driven.lost == 0
    assert driven.emptied


def test_an_engine_that_never_has_memory_gives_itself_up() -> None:
    driven = Driven(Short(Scripted(), lambda _: True), max_running=1)
    for name in ("first", "second", "third"):
        driven.core.submit(request(name))
    while not driven.lost:
        driven.step()
    kinds = {name: driven.last(name) for name in ("first", "second", "third")}
    assert {name: end.kind for name, end in kinds.items() if isinstance(end, Failed)} == {
        "first": "generation_failed",
        "second": "engine_lost",
        "third": "engine_lost",
    }
