"""Runs that differ in nothing but the seed, together: what they measured, what was published and what is true."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from genbench.config import Reference
from genbench.engine.measurement import Better, Family, Measurement, Quantity, verdict
from genbench.engine.rundir import FINISHED
from genbench.identity import without
from genbench.naming import natural
from genbench.report.reading import Problem, Run
from genbench.report.statistics import Estimate, estimate

__all__ = [
    "Comparison",
    "Group",
    "Result",
    "group",
    "headline",
    "mean_of",
    "protocol_text",
    "results",
    "telling",
]

# What does not tell groups apart: the seed, how steps are computed, and a first part that was a run of its own.
NOT_SETTINGS = ("seed", "deterministic", "task.compile", "extend")
JUDGED = ("reached", "missed", "shortened", "impossible")
"""Verdicts on a value that could be compared."""


@dataclass(eq=False)
class Group:
    """All runs of one experiment with one configuration; only those that are done are averaged."""

    experiment: str
    words: str
    """What was changed from the experiment."""

    family: Family
    done: list[Run] = field(default_factory=list)
    others: list[Run] = field(default_factory=list)
    """Runs that failed, diverged, were interrupted or are still running."""

    @property
    def title(self) -> str:
        return f"{self.experiment} ({self.words})" if self.words else self.experiment

    @property
    def runs(self) -> list[Run]:
        return [*self.done, *self.others]

    @property
    def diverged(self) -> str:
        """Such as "1 of 3 diverged", of the runs that have ended; empty where none diverged."""
        count = sum(run.state == "diverged" for run in self.others)
        return f"{count} of {len(self.done) + count} diverged" if count else ""

    @property
    def first(self) -> Run:
        """The run whose pictures are shown: the lowest seed, of those that are done if there are any."""
        return min(self.done or self.others, key=lambda run: run.seed)


@dataclass(frozen=True)
class Comparison:
    """A published value beside the mean over seeds."""

    reference: Reference
    measured: float
    verdict: str

    @property
    def difference(self) -> float:
        return self.measured - self.reference.value


@dataclass(frozen=True)
class Result:
    """One quantity of one group under one protocol."""

    group: Group
    quantity: Quantity
    protocol: Mapping[str, str]
    runs: tuple[Run, ...]
    final: Estimate
    best: Estimate | None
    """None where only one value was ever measured, at the end."""

    standard_error: float | None
    """Of one run's final value, over the images or points that it is a mean of."""

    monte_carlo_error: float | None
    """Its part by sampling: of the same images or points."""

    truth: float | None
    impossible: bool
    """A value of one of the runs lies past what any value can be."""

    comparisons: tuple[Comparison, ...]

    @property
    def values(self) -> list[float]:
        return _values(self.runs, self.quantity.name, "final")


def group(runs: Sequence[Run]) -> tuple[list[Group], list[Problem]]:
    """All groups, sorted by name, and runs left out because the same is there twice."""
    groups: dict[str, Group] = {}
    ended: dict[tuple[str, int, str], Run] = {}
    problems: list[Problem] = []
    for run in sorted(runs, key=lambda run: (natural(run.name), natural(run.words), run.seed)):
        key = json.dumps([run.name, telling(run)], sort_keys=True)
        found = groups.setdefault(key, Group(run.name, run.words, run.family))
        twin = ended.setdefault((key, run.seed, run.state), run) if run.state in FINISHED else run
        if twin is not run:
            problems.append(Problem(run.path, f"same configuration and seed as {twin.path}: counted once"))
        else:
            (found.done if run.state == "done" else found.others).append(run)
    return list(groups.values()), problems


def telling(run: Run) -> dict[str, Any]:
    """The settings that tell its group from others, {dotted key: value}."""
    return without(run.summary["settings"], NOT_SETTINGS) | run.parent


def results(one: Group) -> tuple[list[Result], list[Problem]]:
    """What a group has measured, in the order of its quantities; and warnings of mixed protocols and impossible
    values."""
    rows: list[Result] = []
    problems: list[Problem] = []
    for quantity in _quantities(one) if one.done else []:
        by_protocol = _by_protocol(one.done, quantity.name)
        again = _by_protocol([later for run in one.done for later in run.evaluations], quantity.name)
        rows += [_row(one, quantity, together) for together in (*by_protocol.values(), *again.values())]
        problems += [
            Problem(run.path, f"{quantity.name} is {found.value:.6g}: impossible, {_limits(found)}")
            for run in one.done
            for found in _impossible([run], quantity.name, "final")
        ]
        if len(by_protocol) > 1:
            texts = " | ".join(protocol_text(json.loads(protocol)) for protocol in by_protocol)
            reason = f"{one.title}: {quantity.name} was judged in {len(by_protocol)} ways, never averaged: {texts}"
            problems.append(Problem(one.first.path.parent, reason))
    return rows, problems


def headline(rows: Sequence[Result]) -> Result | None:
    """What a group is known by: the first quantity that is impossible, else with a published value, else with a true
    one, else the first."""
    ranks = (
        lambda row: row.impossible,
        lambda row: bool(row.comparisons),
        lambda row: row.truth is not None,
        lambda row: True,
    )
    return next((row for rank in ranks for row in rows if rank(row)), None)


def _by_protocol(runs: Sequence[Run], metric: str) -> dict[str, list[Run]]:
    """Those that have measured it, by how they did."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.value(metric) is not None:
            protocol = json.dumps(run.entry(metric).get("protocol", {}), sort_keys=True)
            found.setdefault(protocol, []).append(run)
    return found


def _quantities(one: Group) -> list[Quantity]:
    """Those of its task, today's among them, and whatever else was published."""
    seen = [one.first, *(later for run in one.done for later in run.evaluations)]
    named = {quantity.name: quantity for run in reversed(seen) for quantity in run.quantities}
    for reference in one.first.references:
        named.setdefault(
            reference.metric, Quantity(reference.metric, reference.metric, better=cast(Better, reference.better))
        )
    return list(named.values())


def _row(one: Group, quantity: Quantity, runs: list[Run]) -> Result:
    name = quantity.name
    final = estimate(_values(runs, name, "final"))
    # What was measured once, at the end, has no best value to speak of.
    bests = _values([run for run in runs if len(run.curves.get(name, [])) > 1], name, "best")
    best = estimate(bests) if bests else None
    protocol = runs[0].entry(name).get("protocol", {})
    # A mean with an impossible value in it is none that could be reached.
    impossible = {at: _impossible(runs, name, at) for at in ("final", "best")}
    comparisons = []
    for reference in one.first.references:
        if reference.metric == name:
            at = "best" if reference.at == "best" and best else "final"
            mean = best.mean if at == "best" and best else final.mean
            judged = next(iter(impossible[at]), Measurement(mean, protocol=protocol))
            said = verdict(reference, judged, bool(runs[0].summary["shortened"]))
            if said in JUDGED:
                comparisons.append(Comparison(reference, mean, said))
    return Result(
        one,
        quantity,
        protocol,
        tuple(runs),
        final,
        best,
        _mean(runs, name, "standard_error"),
        _mean(runs, name, "monte_carlo_error"),
        _mean(runs, name, "truth"),
        any(impossible.values()),
        tuple(comparisons),
    )


def _impossible(runs: Sequence[Run], metric: str, at: str) -> list[Measurement]:
    measured = [Measurement.from_summary(run.entry(metric), at) for run in runs]
    return [found for found in measured if found.impossible]


def _limits(found: Measurement) -> str:
    said = (("below", found.least), ("above", found.greatest))
    return " and ".join(f"no value is {where} {limit:.6g}" for where, limit in said if limit is not None)


def _values(runs: Sequence[Run], metric: str, at: str) -> list[float]:
    return [value for run in runs if (value := run.value(metric, at)) is not None]


def _mean(runs: Sequence[Run], metric: str, key: str) -> float | None:
    """Of what all runs say beside a metric: a truth may be of a seed's own data."""
    said = [run.entry(metric).get(key) for run in runs]
    found = [float(value) for value in said if value is not None]
    return math.fsum(found) / len(found) if len(found) == len(runs) else None


def mean_of(runs: Sequence[Run], key: str) -> float | None:
    """Of what their summaries say, None where none does."""
    values = [float(run.summary[key]) for run in runs if run.summary.get(key) is not None]
    return math.fsum(values) / len(values) if values else None


def protocol_text(protocol: Mapping[str, Any]) -> str:
    """One line for a caption."""
    said = {key.replace("_", " "): str(value) for key, value in protocol.items()}
    first = said.pop("dataset", "")
    return "; ".join([*([first] if first else []), *(f"{key} {value}" for key, value in said.items())])
