"""A run that is sent while it trains: after every evaluation what was logged since the one before."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
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
    directory says, for each tracker, how many rows of `metrics.jsonl` have been sent and whether that is all.

    Attributes:
        left: whether sending was begun, and the end was not sent.
    """

    def __init__(self, word: str | None, directory: Path, afresh: bool = False) -> None:
        """`afresh`: what was sent before does not count."""
        self._word, self._directory = "/".join(_named(word or "")), directory
        self._stream: Stream | None = None
        self._silent = word is None
        self._sent = Sent()
        self._hash, self._hashed = hashlib.sha256(), 0
        with contextlib.suppress(OSError, ValueError, TypeError):
            if not afresh and self._word in (states := self._states()):
                self._sent = Sent(**states[self._word])

    @property
    def left(self) -> bool:
        return self._sent.begun and not self._sent.whole

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
            found = heading(self._directory.name, summary)
            self._stream = tracker(*_named(self._word)).begin(found, self.left)
            self._note(self._sent if self._stream.goes_on else Sent())
        return self._stream

    def _update(self) -> None:
        rows = (self._directory / "metrics.jsonl").read_bytes().splitlines()
        if not self._sent.whole and self._missing(rows):
            stream = self._opened()  # which may know nothing of what was sent
            stream.log(list(_points(self._missing(rows))))
            self._note(Sent(rows=len(rows), step=_step(rows[-1]), digest=self._digest(rows)))

    def _missing(self, rows: list[bytes]) -> list[bytes]:
        """Those of a run's rows that were not sent. A resumed run repeats its rows, unless its intervals of logging
        have changed: then later steps are new."""
        sent = self._sent
        if not sent.rows or self._digest(rows[: sent.rows]) == sent.digest:
            return rows[sent.rows :]
        return [row for row in rows if _step(row) > sent.step]

    def _digest(self, rows: list[bytes]) -> str:
        """Of what the rows say but for when: a repeated one has another time. Rows are looked at once, as a process
        only adds to them."""
        for row in map(json.loads, rows[self._hashed :]):
            self._hash.update(repr((row["step"], row["metric"], row["value"])).encode())
        self._hashed = len(rows)
        return self._hash.hexdigest()[:8]

    def finish(self) -> None:
        """As `end`, but raises whatever fails."""
        if self._sent.whole:
            return
        self._update()
        self._opened().finish(record(reading.read(self._directory)))
        self._note(replace(self._sent, whole=True))

    def _note(self, sent: Sent) -> None:
        self._sent = replace(sent, begun=True)
        states = {}
        with contextlib.suppress(OSError, ValueError):
            states = self._states()
        with contextlib.suppress(OSError):  # a directory that may only be read remembers nothing
            write_text(self._directory / STATE, json.dumps(states | {self._word: asdict(self._sent)}) + "\n")

    def _states(self) -> dict[str, Any]:
        """{tracker: what was sent there}"""
        found = json.loads((self._directory / STATE).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"{STATE} holds no mapping")
        return found


@dataclass(frozen=True)
class Sent:
    """What a tracker has of a run."""

    begun: bool = False
    whole: bool = False
    rows: int = 0
    step: int = -1  # of the last of these rows
    digest: str = ""  # of them all


def _step(row: bytes) -> int:
    return int(json.loads(row)["step"])


def _points(rows: list[bytes]) -> Iterator[tuple[int, dict[str, float]]]:
    """By step, the values that were logged there."""
    parsed: list[dict[str, Any]] = [json.loads(row) for row in rows]
    for step, group in itertools.groupby(parsed, lambda row: int(row["step"])):
        if values := {row["metric"]: row["value"] for row in group if row["value"] is not None}:
            yield step, values
