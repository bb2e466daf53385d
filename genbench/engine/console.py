"""Console output of a run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Reporter"]

SECONDS_BETWEEN_LINES = 2


class Reporter:
    """Progress of one run, or of several that are trained together, as a context manager."""

    def __init__(self, title: str, total: int, runs: int = 1) -> None:
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._title, self._total, self._runs = title, total, runs
        self._last_line = -math.inf
        self._progress: Progress | None = None

    def __enter__(self) -> Reporter:
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, TextColumn("{task.fields[note]}"), console=self._console)
            self._progress.start()
            self._bar = self._progress.add_task(self._title, total=self._total, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()

    def advance(self, run: str, step: int, values: dict[str, float], rate: float) -> None:
        """Report progress of the run of this title: move the bar, or print a line every few seconds."""
        if self._progress:
            self._progress.update(self._bar, completed=step, note=_shown(values))
        else:
            self._now_and_then(f"{run}  step {step}/{self._total}  {_shown(values)}  {rate:.0f} steps/s")

    def measured(self, run: str, step: int, epoch: float, values: dict[str, float]) -> None:
        """Report an evaluation, at most one line every few seconds; the last one of a single run always."""
        last = step == self._total and self._runs == 1
        self._now_and_then(f"{run}  step {step}  epoch {epoch:.4g}  {_shown(values)}", last)

    def _now_and_then(self, line: str, always: bool = False) -> None:
        if always or time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, markup=False)


def _shown(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.6g}" for name, value in values.items())
