"""Run directories as a report sees them: found, checked against themselves, and never half read."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from genbench.compose import natural
from genbench.engine.rundir import FINISHED
from genbench.errors import ConfigError
from genbench.report.events import damage

__all__ = ["Damaged", "Loader", "Point", "Problem", "Run", "find", "read"]

STATUSES = ("running", "done", "failed", "diverged", "interrupted")
ROW = ("step", "epoch", "time", "metric", "value")


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Written in C it is ten times as fast; like OmegaConf's, and unlike YAML 1.1, it takes 1e-3 for a number."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class Damaged(Exception):
    """A run directory that does not hold what it should; the message says what."""


class Problem(NamedTuple):
    """Something that was skipped, and why."""

    path: Path
    reason: str


class Point(NamedTuple):
    """One logged value; NaN where it was not finite."""

    step: int
    epoch: float
    value: float


@dataclass(frozen=True)
class Run:
    """A run directory, read whole."""

    path: Path
    config: dict[str, Any]
    status: dict[str, Any]
    summary: dict[str, Any]
    """Empty unless the run is done or diverged."""

    curves: dict[str, list[Point]] = field(repr=False)
    problems: tuple[Problem, ...] = ()
    """Event files that are damaged: nothing else of the run is read from them."""

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def state(self) -> str:
        return str(self.status["status"])

    @property
    def last_line(self) -> str:
        """What the run said last: its error, or the last values that it logged."""
        error = str(self.status.get("error") or "").strip().splitlines()
        if error:
            return error[-1]
        step = max((points[-1].step for points in self.curves.values()), default=None)
        if step is None:
            return "nothing logged"
        last = {name: points[-1].value for name, points in self.curves.items() if points[-1].step == step}
        return f"step {step}: " + ", ".join(f"{name} {value:.6g}" for name, value in last.items())


def find(roots: Iterable[Path], problems: list[Problem]) -> list[Path]:
    """Every run directory in `roots`, themselves included, once; directories that cannot be listed go to `problems`.

    Raises ConfigError for a root that is not there.
    """
    found: list[Path] = []
    seen: set[Path] = set()
    for root in roots:
        if not root.is_dir():
            raise ConfigError(f"{root} is not a directory", "name directories that hold runs, such as outputs")
        found += _run_directories(root, seen, problems)
    return sorted(found, key=lambda path: natural(str(path)))


def _run_directories(root: Path, seen: set[Path], problems: list[Problem]) -> Iterator[Path]:
    """Links are followed; what was `seen` is passed by, so that no circle of links is walked for ever."""

    def unreadable(error: OSError) -> None:
        problems.append(Problem(Path(error.filename), f"cannot be listed: {error.strerror}"))

    for directory, below, files in os.walk(root, onerror=unreadable, followlinks=True):
        here = Path(directory).resolve()
        if here in seen:
            below.clear()
            continue
        seen.add(here)
        if {"config.yaml", "status.json"} & set(files):
            below.clear()
            yield Path(directory)
        below[:] = sorted(name for name in below if not name.startswith("."))


def read(path: Path) -> Run:
    """A run directory, checked: files whole, and the last step of the logs that of the status.

    Raises Damaged with the reason.
    """
    config = _mapping(path / "config.yaml", "name", "seed", "task", "dataset", "trainer")
    status = _mapping(path / "status.json", "status", "step")
    if status["status"] not in STATUSES or not isinstance(status["step"], int):
        raise Damaged(f"status.json: status {status['status']!r} at step {status['step']!r}")
    task, trainer = config["task"], config["trainer"]
    if not (isinstance(task, dict) and isinstance(task.get("name"), str) and isinstance(trainer, dict)):
        raise Damaged("config.yaml has no task.name, or no trainer")
    curves = _curves(path / "metrics.jsonl", required=status["status"] in FINISHED)
    last = max((points[-1].step for points in curves.values()), default=0)
    if status["status"] == "done" and last != status["step"]:
        raise Damaged(f"metrics.jsonl ends at step {last}, but status.json says done at step {status['step']}")
    # "running" and "failed" may tell where the run was started: at a checkpoint from before the last rows.
    if status["status"] not in ("running", "failed") and last > status["step"]:
        raise Damaged(f"metrics.jsonl goes on to step {last}, but status.json ends at step {status['step']}")
    summary: dict[str, Any] = {}
    if status["status"] in FINISHED:
        summary = _mapping(path / "summary.json", "name", "seed", "step", "status", "metrics", "protocol")
        _check_summary(summary, config, status, curves)
    return Run(path, config, status, summary, curves, _event_problems(path, status, last))


def _mapping(path: Path, *keys: str) -> dict[str, Any]:
    """A YAML or JSON file that holds at least `keys`."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader)
    except FileNotFoundError:
        raise Damaged(f"{path.name} is missing") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Damaged(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from None
    missing = [key for key in keys if key not in found] if isinstance(found, dict) else list(keys)
    if missing:
        raise Damaged(f"{path.name} has no {', '.join(missing)}")
    return found


def _curves(path: Path, required: bool) -> dict[str, list[Point]]:
    curves: dict[str, list[Point]] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise Damaged("metrics.jsonl is missing") from None
        return {}
    except (OSError, ValueError) as error:
        raise Damaged(f"metrics.jsonl cannot be read: {error}") from None
    if text and not text.endswith("\n"):
        raise Damaged("metrics.jsonl ends in the middle of a line")
    step = 0
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
            previous, step = step, int(row["step"])
            value = math.nan if row["value"] is None else float(row["value"])
            curves.setdefault(str(row["metric"]), []).append(Point(step, float(row["epoch"]), value))
        except (ValueError, KeyError, TypeError):
            raise Damaged(f"metrics.jsonl, line {number} is not a row of {', '.join(ROW)}") from None
        if step < previous:
            raise Damaged(f"metrics.jsonl, line {number} goes back from step {previous} to step {step}")
    return curves


def _check_summary(
    summary: dict[str, Any], config: dict[str, Any], status: dict[str, Any], curves: dict[str, list[Point]]
) -> None:
    """The summary is of this run, and its final values are the last ones that were logged."""
    for key, other in (("name", config), ("seed", config), ("step", status), ("status", status)):
        if summary[key] != other[key]:
            raise Damaged(f"summary.json has {key} {summary[key]!r}, its run {other[key]!r}")
    for key in ("metrics", "protocol", "versions"):
        if not isinstance(summary.get(key, {}), dict):
            raise Damaged(f"summary.json: {key} is {summary[key]!r}")
    for row in summary.get("members", []):
        whole = isinstance(row, dict) and {"experiment", "seed"} <= row.keys()
        if not whole or not isinstance(row.get("metrics"), dict):
            raise Damaged("summary.json: a member has no experiment, seed or metrics")
    for metric, entry in summary["metrics"].items():
        try:
            final, best = (entry.get(at, entry["final"])["value"] for at in ("final", "best"))
            math.isnan(best or 0.0)  # raises where it is no number
            logged = curves[metric][-1].value
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Damaged(f"{metric} is not whole in both summary.json and metrics.jsonl") from None
        if final != logged and not (final is None and math.isnan(logged)):
            raise Damaged(f"{metric} is {final} in summary.json, {logged} in metrics.jsonl")


def _event_problems(path: Path, status: dict[str, Any], last: int) -> tuple[Problem, ...]:
    files = sorted((path / "tensorboard").glob("events.*"))
    problems, reached = [], None
    for file in files:
        reason, step = damage(file)
        if reason:
            problems.append(Problem(file, reason))
        reached = step if reached is None or step is None else max(reached, step)
    if files and not problems and status["status"] == "done" and reached != last:
        problems.append(
            Problem(files[-1], f"its values end at step {reached}, those of metrics.jsonl at step {last}")
        )
    return tuple(problems)
