"""What trackers have in common whose runs take the values of one step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genbench.trackers.record import Point

__all__ = ["Stepwise"]


class Stepwise:
    """A `Stream` without its end: `run` has `log(values, step=…)` and `finish()`."""

    def __init__(self, run: Any, goes_on: bool) -> None:
        self._run, self.goes_on = run, goes_on

    def log(self, points: Sequence[Point]) -> None:
        for step, values in points:
            self._run.log(dict(values), step=step)

    def leave(self) -> None:
        self._run.finish()
