"""The times of a generation, as its events come."""

from services.inference.engine import Delta, End
from services.inference.generation_times import GenerationTimes, Stopwatch


def test_several_answers_are_decoded_until_the_last_of_them_ends() -> None:
    times = GenerationTimes()
    watch = Stopwatch(times, 2)
    at = watch.started
    watch.hear(Delta("r", [1], 0), at + 1)
    watch.hear(Delta("r", [1], 1), at + 1)
    watch.hear(End("r", "stop", 3, 0, 1, 0), at + 2)
    assert sum(times.decode.counts) == 0
    watch.hear(Delta("r", [1], 1), at + 60)
    watch.hear(End("r", "stop", 3, 0, 2, 1), at + 61)
    assert (sum(times.decode.counts), round(times.decode.sum)) == (1, 60)
