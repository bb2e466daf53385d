"""How jobs end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.engine.measurement import Quantity, objective_among
from genbench.engine.rundir import FINISHED, SCHEMA, RunDirectory
from genbench.errors import ConfigError, GenbenchError, RunLocked, first_line

__all__ = ["EXIT_CODES", "Outcome", "finished_outcome", "objective", "of_summary", "table"]

HEADLINE = 3  # quantities that a line has room for
EXIT_CODES = {"done": 0, "failed": 1, "diverged": 3}


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    directory: Path
    status: str
    exit_code: int
    headline: str = ""

    @staticmethod
    def failed(directory: Path, error: GenbenchError) -> Outcome:
        """Of a job that ended with an error that is no bug."""
        status = "locked" if isinstance(error, RunLocked) else "failed"
        return Outcome(directory, status, error.exit_code, first_line(error))

    @staticmethod
    def of_many(outcomes: Sequence[Outcome]) -> Outcome:
        """Of a job that consists of several runs of one output root: that of the worst of them."""
        worst = max(outcomes, key=lambda outcome: outcome.exit_code)
        root = worst.directory.parent.parent
        return Outcome(root, worst.status, worst.exit_code, f"{len(outcomes)} runs")

    @property
    def interrupted(self) -> bool:
        return self.status == "interrupted"


def table(what: str, outcomes: Sequence[Outcome]) -> str:
    """How several jobs, or other `what`, ended: one line each."""
    width = max(len(str(outcome.directory)) for outcome in outcomes)
    rows = [f"{outcome.directory!s:<{width}}  {outcome.status:<12} {outcome.headline}" for outcome in outcomes]
    done = sum(outcome.exit_code == 0 for outcome in outcomes)
    return "\n".join([f"{done} of {len(outcomes)} {what} done", *rows])


def finished_outcome(run_dir: RunDirectory) -> Outcome | None:
    """How a run ended; None if it is not over, or its summary is damaged: its last checkpoint can write it again.

    Raises GenbenchError if another version of genbench wrote it.
    """
    status = run_dir.status
    if status not in FINISHED:
        return None
    try:
        found = run_dir.read_summary()
        if found.get("schema") == SCHEMA:
            return of_summary(run_dir, str(status), found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    raise GenbenchError(f"{run_dir.path} was written by another version of genbench\n  delete it to repeat the run")


def of_summary(run_dir: RunDirectory, status: str, ended: dict[str, Any]) -> Outcome:
    """How a run ended, as its whole summary tells."""
    if status == "diverged":
        return Outcome(run_dir.path, status, EXIT_CODES[status], str(run_dir.read_status().get("error", "")))
    finals = {name: entry["final"]["value"] for name, entry in ended["metrics"].items()}
    published = [row["metric"] for row in ended["reference"]]
    shown = [name for name in dict.fromkeys(published) if finals.get(name) is not None]
    if not shown:
        names = [quantity["name"] for quantity in ended["quantities"]]
        shown = [name for name in names if finals.get(name) is not None][:HEADLINE]
    headline = "  ".join(f"{name} {finals[name]:.6g}" for name in shown)
    return Outcome(run_dir.path, status, EXIT_CODES[status], headline)


def objective(outcome: Outcome, name: str | None = None) -> float:
    """What a job measured of the quantity that sweepers optimize, see `objective_among`.

    NaN of a job that is no single run that is done, and where there is no such value.
    """
    if outcome.status != "done":
        return math.nan
    try:
        ended = RunDirectory(outcome.directory).read_summary()
        quantity = objective_among([Quantity(**quantity) for quantity in ended["quantities"]], name)
    except (FileNotFoundError, ConfigError):
        return math.nan
    value = ended["metrics"].get(quantity.name, {}).get("final", {}).get("value")
    return math.nan if value is None else float(value)
