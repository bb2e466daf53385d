"""A run that is sent while it trains: after every evaluation what was logged since the one before."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from genbench.atomic import write_text
from genbench.errors import first_line, optional_package
from genbench.report import reading
from genbench.trackers import Stream, heading, record, tracker

__all__ = ["PROJECT", "Live", "check"]

PROJECT = "genbench"
STATE = "tracker.json"


def check(word: str) -> None:
    """Raise ConfigError if the package of a tracker is not installed."""
    name, _ = _named(word)
    optional_package(name, name)


def _named(word: str) -> tuple[str, str]:
    """`trackio` or `trackio/project` → the tracker, and the project there."""
    name, _, project = word.partition("/")
    return name, project or PROJECT


class Live:
    """Sends the run in a directory to a tracker, each row once, however often the run is interrupted; without a
    tracker, it does nothing.

    A signal does not wait for a tracker, so rows that are on their way when it comes may be sent again.

    A tracker that fails never fails a run: its first error is told, and nothing more is sent. `tracker.json` in the
    directory says how many rows of `metrics.jsonl` have been sent. A resumed run repeats its rows, so their number
    is enough.

    Attributes:
        left: whether sending was begun, and the end was not sent.
    """

    def __init__(self, word: str | None, directory: Path) -> None:
        self._word, self._directory = "/".join(_named(word or "")), directory
        self._stream: Stream | None = None
        self._silent = word is None
        self._sent, self.left = 0, False
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads((directory / STATE).read_text(encoding="utf-8"))
            if state["tracker"] == self._word:
                self._sent, self.left = int(state["rows"]), not state["whole"]

    def update(self) -> None:
        """Send what is new in `metrics.jsonl`."""
        self._attempt(self._update)

    def end(self) -> None:
        """Send the rest of a run that has ended, its pictures and its summary."""
        self._attempt(self.finish)

    def leave(self) -> None:
        """The run was interrupted, or failed."""
        if self._stream is not None:
            self._attempt(self._stream.leave)

    def _attempt(self, step: Callable[[], None]) -> None:
        if self._silent:
            return
        try:
            # Some trackers greet.
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                step()
        except Exception as error:  # foreign code, and a network
            self._silent = True
            remedy = "the run goes on without it; genbench-push sends the rest later"
            print(f"genbench: {self._word}: {first_line(error)}\n  {remedy}", file=sys.stderr)

    def _opened(self) -> Stream:
        if self._stream is None:
            summary = json.loads((self._directory / "summary.json").read_text(encoding="utf-8"))
            self._stream = tracker(*_named(self._word)).begin(heading(self._directory.name, summary), self.left)
            self._note(whole=False)
        return self._stream

    def _update(self) -> None:
        rows = (self._directory / "metrics.jsonl").read_bytes().splitlines()
        if new := rows[self._sent :]:
            self._opened().log(list(_points(new)))
            self._sent = len(rows)
            self._note(whole=False)

    def finish(self) -> None:
        """As `end`, but raises whatever fails."""
        self._update()
        self._opened().finish(record(reading.read(self._directory)))
        self._note(whole=True)

    def _note(self, whole: bool) -> None:
        self.left = not whole
        state = {"tracker": self._word, "rows": self._sent, "whole": whole}
        write_text(self._directory / STATE, json.dumps(state) + "\n")


def _points(rows: list[bytes]) -> Iterator[tuple[int, dict[str, float]]]:
    """By step, the values that were logged there."""
    parsed: list[dict[str, Any]] = [json.loads(row) for row in rows]
    for step, group in itertools.groupby(parsed, lambda row: int(row["step"])):
        if values := {row["metric"]: row["value"] for row in group if row["value"] is not None}:
            yield step, values
