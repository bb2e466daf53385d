"""Console output of a run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from genbench.terminal import console

__all__ = ["Reporter"]

SECONDS_BETWEEN_LINES = 2


class Reporter:
    """Progress of one run, or of several that are trained together, as a context manager.

    On a terminal it is a bar with percentage, time left and the last value of `headline`, the name of a metric; until
    that is measured, the first value that is logged.
    """

    def __init__(self, title: str, total: int, headline: str = "", runs: int = 1) -> None:
        self._console = console()
        self._title, self._total, self._headline, self._runs = title, total, headline, runs
        self._last_line = -math.inf
        self._measured = False
        self._progress: Progress | None = None

    def __enter__(self) -> Reporter:
        if self._console.is_terminal:
            self.say(self._title)
            # The bar takes what the others leave. A value that needs more than half of the line is cut off.
            value = Column(no_wrap=True, overflow="ellipsis", max_width=self._console.width // 2)
            columns = (
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[note]}", markup=False, table_column=value),
            )
            self._progress = Progress(*columns, console=self._console, expand=True)
            self._progress.start()
            self._bar = self._progress.add_task("", total=self._total, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()

    def advance(self, run: str, step: int, values: dict[str, float], rate: float) -> None:
        """Report progress of the run of this title: move the bar, or print a line every few seconds."""
        if self._progress:
            self._progress.update(self._bar, completed=step)
            if not self._measured:
                self._note(values)
        else:
            self._now_and_then(f"{run}  step {step}/{self._total}  {_shown(values)}  {rate:.0f} steps/s")

    def measured(self, run: str, step: int, epoch: float, values: dict[str, float]) -> None:
        """Report an evaluation, at most one line every few seconds; the last one of a single run always."""
        if self._headline in values:
            self._measured = True
            values = {self._headline: values[self._headline], **values}  # first: a terminal cuts off the end
            self._note(values)
        whose = f"{run}  " if self._runs > 1 or not self._progress else ""
        last = step == self._total and self._runs == 1
        self._now_and_then(f"{whose}step {step}  epoch {epoch:.4g}  {_shown(values)}", last)

    def _note(self, values: dict[str, float]) -> None:
        if self._progress:
            self._progress.update(self._bar, note=_shown(dict(list(values.items())[:1])))

    def _now_and_then(self, line: str, always: bool = False) -> None:
        if always or time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            on_terminal = self._progress is not None
            self._console.print(
                line, markup=False, no_wrap=True, overflow="ellipsis" if on_terminal else "ignore", crop=on_terminal
            )

    def say(self, line: str) -> None:
        """Print a line that stays, whole."""
        self._console.print(line, markup=False, soft_wrap=True)


def _shown(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.6g}" for name, value in values.items())
