"""Run directories as a report sees them: `summary.json` and `metrics.jsonl`, checked against each other."""

from __future__ import annotations

import json
import math
import os
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, get_args, overload

from genbench.config import Reference
from genbench.engine.measurement import Better, Family, Quantity
from genbench.engine.rundir import EVALUATION_SCHEMA, FINISHED, SCHEMA, RunDirectory
from genbench.errors import ConfigError, first_line
from genbench.identity import words
from genbench.naming import natural

__all__ = ["Curve", "Damaged", "Point", "Problem", "Run", "find", "homes", "read", "readable"]

STATES = ("running", "done", "failed", "diverged", "interrupted")
TEXTS, MAPPINGS = ("name", "title", "cover"), ("changes", "settings", "family", "curves", "versions")
BEGUN = {"seed": int, "quantities": list, **dict.fromkeys(TEXTS, str), **dict.fromkeys(MAPPINGS, dict)}
"""What `summary.json` holds from the start of a run on."""

ENDED = {"status": str, "step": int, "shortened": bool, "metrics": dict, "reference": list, "wall_seconds": float}
"""What it holds besides at the end."""


class Damaged(Exception):
    """A run directory that does not hold what it should; the message says what."""


class Problem(NamedTuple):
    """Something that was left out, and why."""

    path: Path
    reason: str


class Point(NamedTuple):
    """One logged value; NaN where it was not finite."""

    step: int
    value: float


class Curve(Sequence[Point]):
    """The logged values of a metric, by step: 16 bytes each, as a report holds those of many runs."""

    def __init__(self) -> None:
        self._steps, self._values = array("q"), array("d")

    def append(self, point: Point) -> None:
        self._steps.append(point.step)
        self._values.append(point.value)

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> Point: ...

    @overload
    def __getitem__(self, index: slice) -> list[Point]: ...

    def __getitem__(self, index: int | slice) -> Point | list[Point]:
        if isinstance(index, slice):
            return list(map(Point, self._steps[index], self._values[index]))
        return Point(self._steps[index], self._values[index])

    def __iter__(self) -> Iterator[Point]:
        return map(Point, self._steps, self._values)


@dataclass(frozen=True)
class Run:
    """A run directory, read whole."""

    path: Path
    status: Mapping[str, Any]
    """`status.json`: how far the run is."""

    summary: Mapping[str, Any]
    """`summary.json`; only that of a finished run has measurements."""

    curves: Mapping[str, Curve] = field(repr=False)

    clock: Curve = field(repr=False)
    """Seconds spent in training steps, by step, wherever anything was logged."""

    evaluations: tuple[Run, ...] = ()
    """The same run as measured again later, oldest first, each with what came out under a protocol of its own, and
    without curves."""

    damaged: tuple[Problem, ...] = ()
    """Files of such measurements that were left out."""

    @property
    def name(self) -> str:
        return str(self.summary["name"])

    @property
    def seed(self) -> int:
        return int(self.summary["seed"])

    @property
    def state(self) -> str:
        return str(self.status["status"])

    @property
    def changes(self) -> dict[str, str]:
        """What was changed from the experiment, the same for all seeds: {key: value as text}."""
        return {key: value for key, value in self.summary["changes"].items() if key != "extend"} | self.parent

    @property
    def words(self) -> str:
        """The changes in short."""
        return ", ".join(words(self.changes))

    @property
    def parent(self) -> dict[str, str]:
        """With whose weights it began, up to the seed; runs of earlier versions do not know."""
        parent = self.summary.get("parent") or {}
        return {"init_from": parent["group"]} if parent.get("kind") == "init_from" and "group" in parent else {}

    @cached_property
    def family(self) -> Family:
        return Family(**self.summary["family"])

    @cached_property
    def quantities(self) -> list[Quantity]:
        return [Quantity(**row) for row in self.summary["quantities"]]

    @cached_property
    def references(self) -> list[Reference]:
        names = {field.name for field in fields(Reference)}
        rows = self.summary.get("reference", [])
        return [Reference(**{key: value for key, value in row.items() if key in names}) for row in rows]

    def entry(self, metric: str) -> Mapping[str, Any]:
        """Everything that is known of a metric."""
        found: Mapping[str, Any] = self.summary.get("metrics", {}).get(metric, {})
        return found

    def value(self, metric: str, at: str = "final") -> float | None:
        found = self.entry(metric).get(at, {}).get("value")
        return None if found is None else float(found)

    def first(self, metric: str, reference: Reference) -> Point | None:
        """The first step at which a logged value was as good as a published one, and the seconds of training until
        then."""
        sign = 1 if reference.better == "higher" else -1
        reached = (point.step for point in self.curves.get(metric, ()) if sign * (point.value - reference.value) >= 0)
        step = next(reached, None)
        return next((point for point in self.clock if point.step == step), None)

    @property
    def logged(self) -> int:
        """The last step that is in the logs."""
        return max((points[-1].step for points in self.curves.values()), default=0)

    @property
    def step(self) -> int:
        """How far it is: the status of a running run tells where it was started."""
        return max(int(self.status["step"]), self.logged)

    @property
    def last_line(self) -> str:
        """What the run said last: its error, or the last values that it logged."""
        error = str(self.status.get("error") or "").strip().splitlines()
        if error:
            return error[-1]
        if not self.curves:
            return "nothing logged"
        last = {name: points[-1].value for name, points in self.curves.items() if points[-1].step == self.logged}
        return f"step {self.logged}: " + ", ".join(f"{name} {value:.6g}" for name, value in last.items())


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
    """Follows links, and visits no directory twice, so that no circle of links is walked for ever."""

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
    status = _mapping(path / "status.json", "status", "step")
    if status["status"] not in STATES or not isinstance(status["step"], int):
        raise Damaged(f"status.json: status {status['status']!r} at step {status['step']!r}")
    summary = _mapping(path / "summary.json")
    if summary.get("schema") != SCHEMA:
        command = summary.get("command") or "the run"
        raise Damaged(f"summary.json was written by another version of genbench: repeat {command}")
    ended = status["status"] in FINISHED
    expected = BEGUN | ENDED if ended else BEGUN
    wrong = [key for key, kind in expected.items() if not isinstance(summary.get(key), kind)]
    if wrong:
        raise Damaged(f"summary.json has no proper {', '.join(wrong)}")
    run = Run(path, status, summary, *_curves(path / "metrics.jsonl", str(status["status"])))
    last = run.logged
    if status["status"] == "done" and last != status["step"]:
        raise Damaged(f"metrics.jsonl ends at step {last}, but status.json says done at step {status['step']}")
    # "running" and "failed" may tell where the run was started: at a checkpoint from before the last rows.
    if status["status"] not in ("running", "failed") and last > status["step"]:
        raise Damaged(f"metrics.jsonl goes on to step {last}, but status.json ends at step {status['step']}")
    _check_meaning(run)
    if not ended:
        return run
    _check_values(run)
    damaged: list[Problem] = []
    evaluations = _newest(run, list(_evaluations(run, damaged)))
    return replace(run, evaluations=tuple(evaluations), damaged=tuple(damaged))


def readable(paths: Iterable[Path], problems: list[Problem]) -> Iterator[Run]:
    """The run directories among `paths` that are whole; why others are not is added to `problems`."""
    for path in paths:
        try:
            run = read(path)
        except Damaged as damaged:
            problems.append(Problem(path, str(damaged)))
        else:
            problems += run.damaged
            yield run


def homes(runs: Iterable[Run]) -> list[Path]:
    """The directories that runs lie in, and those of their experiments: where sweeps leave what is of all of them."""
    found = dict.fromkeys(home for run in runs for home in (run.path.parent, run.path.parent.parent))
    once: dict[Path, Path] = {}  # a directory may be named in several ways
    for home in found:
        once.setdefault(home.resolve(), home)
    return list(once.values())


def _evaluations(run: Run, problems: list[Problem]) -> Iterator[Run]:
    """All that are whole; why others are not is added to `problems`."""
    for path in sorted(RunDirectory(run.path).evaluations.glob("*.json")):
        try:
            found = _mapping(path, "schema", "quantities", "metrics", "finished")
            if found["schema"] != EVALUATION_SCHEMA:
                raise Damaged(f"{path.name} was written by another version of genbench: evaluate the run again")
            if not isinstance(found["quantities"], list) or not isinstance(found["metrics"], dict):
                raise Damaged(f"{path.name} has no proper quantities, metrics")
            for metric, entry in found["metrics"].items():
                _check_entry(metric, entry, path.name)
            of_it = {key: found[key] for key in ("quantities", "metrics", "finished")}
            again = replace(run, summary={**run.summary, **of_it}, curves={}, clock=Curve())
            _check_meaning(again, path.name)
        except Damaged as damaged:
            problems.append(Problem(path, str(damaged)))
        else:
            yield again


def _newest(run: Run, evaluations: Sequence[Run]) -> list[Run]:
    """Of every metric one value for each protocol: that of the run itself, else of its newest evaluation."""
    seen = {(name, _protocol(entry)) for name, entry in run.summary["metrics"].items()}
    kept: list[Run] = []
    for again in sorted(evaluations, key=lambda again: str(again.summary["finished"]), reverse=True):
        keys = {name: (name, _protocol(entry)) for name, entry in again.summary["metrics"].items()}
        metrics = {name: again.entry(name) for name, key in keys.items() if key not in seen}
        seen |= set(keys.values())
        kept.append(replace(again, summary={**again.summary, "metrics": metrics}))
    return kept[::-1]


def _protocol(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry.get("protocol", {}), sort_keys=True)


def _mapping(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON file that holds at least `keys`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except FileNotFoundError:
        raise Damaged(f"{path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise Damaged(f"{path.name} cannot be read: {first_line(error)}") from None
    missing = [key for key in keys if key not in found] if isinstance(found, dict) else ["entries"]
    if missing:
        raise Damaged(f"{path.name} has no {', '.join(missing)}")
    return dict(found)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose words are in memory once, however many runs say the same."""
    return {sys.intern(key): sys.intern(value) if isinstance(value, str) else value for key, value in pairs}


def _curves(path: Path, status: str) -> tuple[dict[str, Curve], Curve]:
    """The logged values of each metric, and the clock."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if status in FINISHED:
            raise Damaged("metrics.jsonl is missing") from None
        return {}, Curve()
    except (OSError, ValueError) as error:
        raise Damaged(f"metrics.jsonl cannot be read: {error}") from None
    if status == "running":
        text = text[: text.rfind("\n") + 1]  # its last row may be on its way to the disk
    elif text and not text.endswith("\n"):
        raise Damaged("metrics.jsonl ends in the middle of a line")
    curves: dict[str, Curve] = {}
    clock = Curve()
    step = 0
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
            previous, step = step, int(row["step"])
            value = math.nan if row["value"] is None else float(row["value"])
            curves.setdefault(sys.intern(str(row["metric"])), Curve()).append(Point(step, value))
            if step > previous or not clock:
                clock.append(Point(step, float(row["time"])))
        except (ValueError, KeyError, TypeError, OverflowError):
            raise Damaged(f"metrics.jsonl, line {number} is not a row of step, epoch, time, metric, value") from None
        if step < previous:
            raise Damaged(f"metrics.jsonl, line {number} goes back from step {previous} to step {step}")
    return curves, clock


def _check_meaning(run: Run, file: str = "summary.json") -> None:
    try:
        _ = run.family, run.references, [list(metrics) for metrics in run.summary["curves"].values()]
        for quantity in run.quantities:
            if quantity.better not in get_args(Better):
                raise ValueError(f"{quantity.name} has better {quantity.better!r}")
    except (TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"{file} is not as this version writes it: {error}") from None


def _check_values(run: Run) -> None:
    """The summary is of this run, and its final values are the last ones that were logged."""
    for key in ("step", "status"):
        if run.summary[key] != run.status[key]:
            raise Damaged(f"summary.json has {key} {run.summary[key]!r}, status.json {run.status[key]!r}")
    for metric, entry in run.summary["metrics"].items():
        final = _check_entry(metric, entry)
        if not run.curves.get(metric):
            raise Damaged(f"{metric} is in summary.json, and not in metrics.jsonl")
        logged = run.curves[metric][-1].value
        if final != logged and not (final is None and math.isnan(logged)):
            raise Damaged(f"{metric} is {final} in summary.json, {logged} in metrics.jsonl")


def _check_entry(metric: str, entry: Mapping[str, Any], file: str = "summary.json") -> float | None:
    """The final value of a metric. Raises Damaged for what no run writes."""
    try:
        final, best = (entry.get(at, entry["final"])["value"] for at in ("final", "best"))
        said = ("truth", "standard_error", "monte_carlo_error", "least", "greatest")
        for value in (final, best, *map(entry.get, said)):
            math.isnan(value or 0.0)  # raises where it is no number
        entry.get("protocol", {}).items()
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Damaged(f"{metric} is not whole in {file}") from None
    return None if final is None else float(final)
