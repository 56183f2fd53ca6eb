"""How far a command has come: a bar on a terminal, a line now and then elsewhere; on standard error."""

import sys
import time
from types import TracebackType
from typing import Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

_SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Counts rows or records; a context manager."""

    def __init__(self, total: int | None, *, quiet: bool = False) -> None:
        """`total`: how many there will be, if that is known. `quiet`: say nothing."""
        self._total = total
        self._done = 0
        self._said_at = time.monotonic()
        self._quiet = quiet
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        self._bar = Bar(*columns, console=console, disable=quiet or not console.is_terminal)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, what: str, count: int) -> None:
        """So many more are done."""
        self._done += count
        self._bar.update(self._task, description=what, advance=count)
        at = time.monotonic()
        if self._bar.disable and not self._quiet and at - self._said_at >= _SECONDS_BETWEEN_LINES:
            self._said_at = at
            of = "" if self._total is None else f" of {self._total}"
            typer.echo(f"{what}: {self._done}{of}", file=sys.stderr)
