"""Jobs of a sweep, and how they ended as their run directories tell: no process has to be there to say it."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench import ensemble
from genbench.compose import Request
from genbench.engine.rundir import RunDirectory
from genbench.errors import GenbenchError, RunLocked
from genbench.outcome import EXIT_CODES, Outcome, finished_outcome
from genbench.run import run_directory, settled

__all__ = ["SweepJob", "directories", "finished", "outcome_of"]

KILLED = 128 + 9  # as a shell says it


@dataclass(frozen=True)
class SweepJob:
    """A job of a sweep that is not done yet: which of how many, and what the sweep chose for it.

    Attributes:
        statuses: of its runs, before the sweep does anything about them.
    """

    index: int
    total: int
    request: Request
    statuses: Sequence[Mapping[str, Any]]

    @property
    def number(self) -> str:
        """`[3/5]`."""
        return f"[{self.index + 1}/{self.total}]"

    @property
    def label(self) -> str:
        return " ".join([self.number, *self.request.swept])


def directories(request: Request) -> list[RunDirectory]:
    """Of a job's run, or of all runs of an ensemble. Raises ConfigError and DataError."""
    config = settled(request.config)
    if config.ensemble is None:
        return [RunDirectory(run_directory(config))]
    return [RunDirectory(run_directory(member.config)) for member in ensemble.members(config, request.words)]


def finished(runs: Sequence[RunDirectory]) -> Outcome | None:
    """How a job of these runs ended that need not be done again; None for any other."""
    found = [finished_outcome(directory) for directory in runs]
    ended = [outcome for outcome in found if outcome is not None]
    return _together(ended) if len(ended) == len(found) else None


def outcome_of(job: SweepJob, told: str = "") -> Outcome:
    """How a job ended whose process is gone; `told` is what else is known about it."""
    try:
        found = directories(job.request)
    except GenbenchError as error:
        return Outcome.failed(Path(job.request.config.output_root), error)
    return _together([_of_run(*run, told) for run in zip(found, job.statuses, strict=True)])


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    """A job's, of those of its runs."""
    return outcomes[0] if len(outcomes) == 1 else Outcome.of_many(outcomes)


def _of_run(directory: RunDirectory, before: Mapping[str, Any], told: str) -> Outcome:
    """`before` is what the status was before the job."""
    row = directory.read_status()
    status, where = row.get("status"), f"at step {row.get('step')}"
    if row == before and status in ("failed", "interrupted"):  # so another job ended, an earlier one
        return Outcome(directory.path, "not started", EXIT_CODES["failed"], told or f"{status} before, {where}")
    ended = finished_outcome(directory)
    if ended is not None:
        return ended
    if status == "failed":
        return Outcome(directory.path, "failed", EXIT_CODES["failed"], str(row.get("error", "")).partition("\n")[0])
    if status == "interrupted":
        name = str(row.get("signal"))
        number = getattr(signal, name, 0)
        return Outcome(directory.path, "interrupted", 128 + int(number), f"by {name} {where}")
    if status == "running":
        try:
            with directory:
                return Outcome(directory.path, "killed", KILLED, told or f"its process is gone, {where}")
        except RunLocked:
            return Outcome(directory.path, "running", EXIT_CODES["failed"], where)
    return Outcome(directory.path, "not started", EXIT_CODES["failed"], told)
