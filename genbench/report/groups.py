"""Runs that differ in nothing but the seed, together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from genbench.compose import natural
from genbench.report.catalog import Catalog, changes, settings
from genbench.report.families import Family, family_of
from genbench.report.reading import Point, Problem, Run

__all__ = ["Group", "Member", "group"]


@dataclass(frozen=True)
class Member:
    """One seed: a run that is done, or a member of an ensemble."""

    run: Run
    seed: int
    metrics: dict[str, dict[str, Any]]
    protocol: dict[str, Any]
    curves: dict[str, list[Point]] = field(default_factory=dict, repr=False)

    def value(self, metric: str, at: str = "final") -> float | None:
        entry = self.metrics.get(metric, {}).get(at)
        return None if entry is None or entry["value"] is None else float(entry["value"])


@dataclass
class Group:
    """All runs of one experiment and one configuration."""

    experiment: str
    family: Family
    suite: str
    """The ensemble that the members are part of, or ""."""

    settings: dict[str, Any]
    changes: dict[str, tuple[str, str]]
    """What differs from the experiment's YAML: key → (there, here)."""

    known: bool = True
    """The configuration has an experiment of this name."""

    theta: str = ""
    """Of divergence estimation: where, or over how many places."""

    members: list[Member] = field(default_factory=list)
    unfinished: list[Run] = field(default_factory=list)
    """Runs that failed, diverged, were interrupted or are still running: nothing of them is averaged."""

    @property
    def variant(self) -> str:
        """What tells this group from its experiment, in words; θ has a column of its own."""
        return ", ".join(part for part in (f"in {self.suite}" if self.suite else "", self.changed) if part)

    @property
    def changed(self) -> str:
        """What differs from the experiment's YAML, in words."""
        if not self.known:
            return "not an experiment of the configuration"
        return ", ".join(f"{key} {before} → {after}" for key, (before, after) in self.changes.items())

    @property
    def title(self) -> str:
        words = ", ".join(part for part in (f"θ = {self.theta}" if self.theta else "", self.variant) if part)
        return f"{self.experiment} ({words})" if words else self.experiment

    @property
    def place(self) -> tuple[bool, float, str]:
        """Sorts the groups of an experiment: an ensemble's first, θ by its value, all θ together before them."""
        try:
            theta = float(self.theta or "-inf")
        except ValueError:
            theta = -math.inf
        return self.suite == "", theta, self.variant

    @property
    def key(self) -> str:
        return json.dumps([self.experiment, self.suite, self.theta, self.changes, self.settings], sort_keys=True)


def group(runs: Sequence[Run], catalog: Catalog) -> tuple[list[Group], list[Problem]]:
    """All groups, in the catalogue's order, and runs left out because the same is there twice."""
    known: dict[str, dict[str, Any]] = {}
    groups: dict[str, Group] = {}
    problems: list[Problem] = []
    for run in runs:
        raw = json.dumps({key: value for key, value in run.config.items() if key != "seed"}, sort_keys=True)
        if raw not in known:
            experiment = catalog.get(run.name)
            known[raw] = settings(run.config, experiment.settings if experiment else None)
        fresh = _group_of(run, known[raw], catalog)
        found = groups.setdefault(fresh.key, fresh)
        if run.state != "done":
            found.unfinished.append(run)
            continue
        twin = next((member.run for member in found.members if member.seed == run.seed), None)
        if twin:
            problems.append(Problem(run.path, f"same configuration and seed as {twin.path}: counted once"))
            continue
        found.members.append(Member(run, run.seed, run.summary["metrics"], run.summary["protocol"], run.curves))
    everything = list(groups.values())
    for one in list(groups.values()):
        everything += _of_suite(one, catalog, problems)
    everything += _over_theta(groups.values())
    return sorted(everything, key=lambda one: (one.family.title, natural(one.experiment), one.place)), problems


def _group_of(run: Run, own: dict[str, Any], catalog: Catalog) -> Group:
    experiment = catalog.get(run.name)
    changed = changes(experiment.settings, own) if experiment else {}
    theta = ""
    if "dataset.theta" in own:
        changed.pop("dataset.theta", None)
        theta = f"{own['dataset.theta']:g}"
    family = family_of(run.config["task"]["name"])
    return Group(run.name, family, "", own, changed, experiment is not None, theta)


def _of_suite(suite: Group, catalog: Catalog, problems: list[Problem]) -> list[Group]:
    """The members of ensembles as groups of the experiments that they name; a seed's flow counts once."""
    found: dict[str, Group] = {}
    for member in suite.members:
        for row in member.run.summary.get("members", []):
            name, target = row["experiment"], row.get("target", "")
            # The ensemble's settings tell its members apart from others; of the target the truths are named.
            own = suite.settings | ({"dataset.target": target} if target else {})
            known = catalog.get(name) is not None
            one = found.setdefault(name, Group(name, suite.family, suite.experiment, own, suite.changes, known))
            twin = next((other.run for other in one.members if other.seed == row["seed"]), None)
            if twin:
                reason = f"{name}, seed {row['seed']}: a member of {twin.path} too, counted once"
                problems.append(Problem(member.run.path, reason))
                continue
            truths = {
                key.removesuffix(f"/{target}"): entry
                for key, entry in member.metrics.items()
                if target and key.startswith("theory/") and key.endswith(f"/{target}")
            }
            metrics = {metric: {"final": {"value": value}} for metric, value in row["metrics"].items()} | truths
            protocol = member.protocol | ({"target": target} if target else {"target": name})
            curves = {} if one.members else _curves_of(member, name.removeprefix("flow-"))
            one.members.append(Member(member.run, row["seed"], metrics, protocol, curves))
    return list(found.values())


def _curves_of(member: Member, ending: str) -> dict[str, list[Point]]:
    """An ensemble logs the mean over its seeds: one curve for all members of an experiment."""
    tail = f"/{ending}"
    return {key.removesuffix(tail): points for key, points in member.curves.items() if key.endswith(tail)}


def _over_theta(groups: Iterable[Group]) -> list[Group]:
    """Divergence estimation as one group for all θ: a seed's mean absolute error over them."""
    sweeps: dict[str, list[Group]] = {}
    for one in groups:
        if one.theta and one.members:
            shared = {key: value for key, value in one.settings.items() if key != "dataset.theta"}
            sweeps.setdefault(json.dumps([one.experiment, one.changes, shared], sort_keys=True), []).append(one)
    found = []
    for parts in sweeps.values():
        first = parts[0]
        thetas = sorted(float(part.theta) for part in parts)
        name = f"{thetas[0]:g} … {thetas[-1]:g}, {len(parts)} values"
        whole = Group(first.experiment, first.family, "", first.settings, first.changes, first.known, name)
        for seed in sorted(set.intersection(*({member.seed for member in part.members} for part in parts))):
            same = [member for part in parts for member in part.members if member.seed == seed]
            errors = [error for member in same if (error := member.value("test/error")) is not None]
            if len(parts) > 1 and len(errors) == len(parts):
                entry = {"final": {"value": math.fsum(errors) / len(errors)}}
                truths = sorted({key.removeprefix("theory/") for key in same[0].metrics if key.startswith("theory/")})
                # Errors of one divergence are not better or worse than those of another.
                protocol = same[0].protocol | ({"divergence": ", ".join(truths)} if truths else {})
                whole.members.append(Member(same[0].run, seed, {"test/mean_error": entry}, protocol))
        if whole.members:
            found.append(whole)
    return found
