"""From answers to figures, and from figures to a table and JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import msgspec

from benchmarks.load import Answer, Round


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Two percentiles, milliseconds; None where there is nothing to measure."""

    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFigures:
    """What one side did at one level.

    Attributes:
        tokens_per_second: output, the median of the rounds.
        tokens_per_second_of_rounds: each of them, in order.
        first_token_ms: from the request's last byte to the first piece of text.
        between_tokens_ms: between pieces; how many tokens a piece holds is `tokens_per_piece`.
        tokens_per_piece: tokens, over pieces that came; above 1 where pieces were merged.
        prompt_tokens, answer_tokens: of a request, means.
        cached_tokens: of the prompts, all together, not computed again: not 0 means that a cache flatters.
        client_busy: the largest share of a core that a client process took.
        requests: whole answers and errors.
        errors: how often each message.
    """

    tokens_per_second: float
    tokens_per_second_of_rounds: list[float]
    first_token_ms: Spread
    between_tokens_ms: Spread
    tokens_per_piece: float
    prompt_tokens: float
    answer_tokens: float
    cached_tokens: int
    client_busy: float
    requests: int
    errors: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One number of streams at once.

    Attributes:
        direct: None where no engine was driven directly.
        ratios: tokens a second over HTTP to directly, of each pair of rounds.
        ratio: their median.
        api_cpu_us_per_token: processor time of the API process, microseconds; None where the process is not known.
        load_average: the machine's, of the last minute, when the level was done.
    """

    concurrency: int
    http: SideFigures
    direct: SideFigures | None
    ratios: list[float]
    ratio: float | None
    api_cpu_us_per_token: float | None
    load_average: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything; `settings` are the command line's."""

    version: str
    date: str
    cores: int
    settings: dict[str, Any]
    levels: list[Level]
    api_peak_rss_mib: float | None
    api_imported_torch: bool | None

    @property
    def errors(self) -> int:
        """Of all levels and both sides."""
        sides = [side for level in self.levels for side in (level.http, level.direct) if side is not None]
        return sum(sum(side.errors.values()) for side in sides)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share`, in [0, 1], of the values lie, interpolated; of at least one value."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def side_figures(rounds: Sequence[Round]) -> SideFigures:
    """The figures of one side's rounds; latencies are those of all rounds together."""
    answers = [answer for one in rounds for answer in one.answers]
    whole = [answer for answer in answers if answer.error is None]
    pieces = sum(len(answer.arrivals) for answer in whole)
    speeds = [one.tokens_per_second for one in rounds]
    return SideFigures(
        tokens_per_second=median(speeds),
        tokens_per_second_of_rounds=speeds,
        first_token_ms=_spread([one.arrivals[0] - one.started for one in whole if one.arrivals]),
        between_tokens_ms=_spread([later - earlier for one in whole for earlier, later in pairwise(one.arrivals)]),
        tokens_per_piece=sum(one.completion_tokens for one in whole) / max(1, pieces),
        prompt_tokens=_mean([one.prompt_tokens for one in whole]),
        answer_tokens=_mean([one.completion_tokens for one in whole]),
        cached_tokens=sum(one.cached_tokens for one in whole),
        client_busy=max(one.client_busy for one in rounds),
        requests=len(answers),
        errors=_errors(answers),
    )


def ratios(http: Sequence[Round], direct: Sequence[Round]) -> list[float]:
    """Tokens a second over HTTP to directly, of each pair; pairs in which a side made no token are left out."""
    pairs = zip(http, direct, strict=False)
    return [ours.tokens_per_second / theirs.tokens_per_second for ours, theirs in pairs if ours.tokens * theirs.tokens]


def as_json(report: Report) -> str:
    """The report, with every number."""
    return msgspec.json.format(msgspec.json.encode(report, enc_hook=str), indent=2).decode()


def table_head() -> str:
    """The first lines of the table."""
    head = (
        f"{'at once':>7} {'side':6} {'tok/s':>9} {'first token ms':>17} {'between tokens ms':>17} "
        f"{'tokens in/out':>14} {'client':>6} {'errors':>6}"
    )
    under = f"{'':24} {'p50':>8} {'p99':>8} {'p50':>8} {'p99':>8} {'a request':>14} {'busy':>6}"
    return f"{head}\n{under}"


def table_level(level: Level) -> str:
    """The table's lines for a level: one a side, what they say together, and what went wrong."""
    lines = [_side_line(level.concurrency, "http", level.http)]
    notes = [f"load average {level.load_average:.1f}"]
    if level.api_cpu_us_per_token is not None:
        notes.insert(0, f"API process {level.api_cpu_us_per_token:.0f} µs a token")
    if level.direct is not None:
        lines.append(_side_line(level.concurrency, "direct", level.direct))
        each = ", ".join(f"{100 * ratio:.1f}" for ratio in level.ratios)
        notes.insert(0, "no ratio" if level.ratio is None else f"HTTP is {100 * level.ratio:.1f} % of direct ({each})")
    lines.append(f"{'':8}{'; '.join(notes)}")
    for name, side in (("http", level.http), ("direct", level.direct)):
        if side is not None:
            lines += [f"{'':8}{name}, {count} times: {message}" for message, count in side.errors.items()]
    return "\n".join(lines)


def table_end(report: Report) -> str:
    """What is said of the API process."""
    if report.api_peak_rss_mib is None:
        return "The API process is not known: neither its memory nor its imports are."
    torch = "imported torch" if report.api_imported_torch else "did not import torch"
    return f"The API process had {report.api_peak_rss_mib:.0f} MiB at its peak and {torch}."


def _side_line(concurrency: int, name: str, side: SideFigures) -> str:
    spreads = (side.first_token_ms, side.between_tokens_ms)
    times = " ".join(f"{'-' if ms is None else f'{ms:.1f}':>8}" for one in spreads for ms in (one.p50, one.p99))
    tokens = f"{side.prompt_tokens:.0f}/{side.answer_tokens:.1f}"
    return (
        f"{concurrency:7} {name:6} {side.tokens_per_second:9.1f} {times} {tokens:>14} {side.client_busy:6.0%} "
        f"{sum(side.errors.values()):6}"
    )


def _spread(seconds: Sequence[float]) -> Spread:
    if not seconds:
        return Spread(p50=None, p99=None)
    return Spread(p50=1000 * percentile(seconds, 0.5), p99=1000 * percentile(seconds, 0.99))


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def _errors(answers: Sequence[Answer]) -> dict[str, int]:
    return dict(Counter(answer.error for answer in answers if answer.error is not None))
