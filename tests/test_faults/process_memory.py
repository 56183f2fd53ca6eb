"""What the processes of a service hold: memory, and open files."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import psutil

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Held:
    """At one moment, by all processes together; memory in MiB, what they share counted for each."""

    memory: float
    files: int


def held(pids: Sequence[int]) -> Held:
    """What these processes hold now."""
    processes = [psutil.Process(pid) for pid in pids]
    return Held(
        sum(process.memory_info().rss for process in processes) / _MIB, sum(process.num_fds() for process in processes)
    )


def growth(samples: Sequence[float]) -> float:
    """From the first third of the samples to the last, of their medians: 0.05 is 5 % more."""
    third = len(samples) // 3
    return median(samples[-third:]) / median(samples[:third]) - 1
