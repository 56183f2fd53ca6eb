"""How far the loading is, for the person who waits: a bar on a terminal, plain lines elsewhere."""

import logging
import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

log = logging.getLogger(__name__)

_LINE_EVERY = 0.25


class Progress:
    """Shows one loading. `show` may be called from any thread."""

    def __init__(self) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("starting", total=1.0)
        self._said: tuple[str, float] = ("", 0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, fraction: float, stage: str) -> None:
        """`fraction` of the whole, 0 to 1, is done; `stage` is under way."""
        self._bar.update(self._task, completed=fraction, description=stage)
        stage_before, fraction_before = self._said
        if self._bar.disable and (stage != stage_before or fraction - fraction_before >= _LINE_EVERY):
            self._said = stage, fraction
            log.info("loading: %s, %.0f %%", stage, fraction * 100)
