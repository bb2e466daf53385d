"""What was measured beside what was published and what is true: the rows from which every output is written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from genbench.config import Reference, declared
from genbench.report.catalog import Catalog, Experiment, changes
from genbench.report.families import (
    FAMILIES,
    SPREAD,
    Family,
    Quantity,
    expected_protocol,
    family_of,
    protocol_of,
    protocol_text,
)
from genbench.report.groups import Group, Member
from genbench.report.reading import Problem
from genbench.report.statistics import Estimate, estimate

__all__ = ["Comparison", "Result", "compare", "results", "standard_error"]


@dataclass(frozen=True)
class Comparison:
    """A published value beside the mean over seeds; `reached` if that is as good, within the tolerance."""

    reference: Reference
    measured: float | None
    verdict: str
    """reached, missed, not measured, or why there is nothing to measure: not run, diverged, interrupted …"""

    @property
    def difference(self) -> float | None:
        return None if self.measured is None else self.measured - self.reference.value


@dataclass(frozen=True)
class Result:
    """One quantity of one group under one protocol."""

    family: Family
    experiment: str
    variant: str
    group: Group | None
    """None: not run."""

    quantity: Quantity
    protocol: dict[str, str]
    members: tuple[Member, ...]
    final: Estimate | None
    best: Estimate | None
    """None where only one value was ever measured, at the end."""

    standard_error: float | None
    """Of the final value, over the images or points that it is a mean of."""

    truth: float | None
    comparisons: tuple[Comparison, ...]
    state: str
    """measured, not run, not measured, or how its runs ended."""

    @property
    def values(self) -> list[float]:
        return [value for member in self.members if (value := member.value(self.quantity.metric)) is not None]

    @property
    def gap(self) -> float | None:
        """How much worse the final value is than the best."""
        if self.final is None or self.best is None:
            return None
        return abs(self.final.mean - self.best.mean)


def compare(reference: Reference, measured: float | None, absent: str = "not measured") -> Comparison:
    """The verdict of one reference; `absent` is the one where nothing was measured."""
    return Comparison(reference, measured, absent if measured is None else reference.verdict(measured))


def results(groups: Sequence[Group], catalog: Catalog) -> tuple[list[Result], list[Problem]]:
    """All rows, family by family; and what must be said of protocols that are mixed."""
    rows: list[Result] = []
    problems: list[Problem] = []
    for group in groups:
        references = _references(group, catalog)
        for quantity in _quantities(group, references):
            own = [reference for reference in references if reference.metric == quantity.metric]
            found = _of_quantity(group, quantity, own)
            if len(found) > 1:
                texts = " | ".join(protocol_text(row.protocol) for row in found)
                reason = f"{group.title}: {quantity.metric} was judged in {len(found)} ways, never averaged: {texts}"
                problems.append(Problem(group.members[0].run.path.parent, reason))
            rows += found
    rows += _not_run(groups, catalog)
    rows = [_at_home(row, rows) for row in rows]
    titles = [family.key for family in FAMILIES]
    return sorted(rows, key=lambda row: _place(titles, row.family.key)), problems


def _place(order: list[str], key: str) -> int:
    return order.index(key) if key in order else len(order)


def _references(group: Group, catalog: Catalog) -> list[Reference]:
    """Those of the experiment's YAML, of an unknown experiment those of its own configuration."""
    experiment = catalog.get(group.experiment)
    if "…" in group.theta or (group.suite and not experiment):
        return []
    if experiment:
        return declared(group.settings, _own(experiment, catalog))
    runs = [*(member.run for member in group.members), *group.unfinished]
    return [Reference(**entry) for entry in runs[0].config.get("reference") or []]


def _own(experiment: Experiment, catalog: Catalog) -> list[Reference]:
    """An experiment's published values, but those of an ensemble's members: these have experiments of their own."""
    if experiment.task != "flow-suite":
        return experiment.references
    return [ref for ref in experiment.references if not catalog.get(f"flow-{ref.metric.rpartition('/')[2]}")]


def _quantities(group: Group, references: Iterable[Reference]) -> list[Quantity]:
    """Those of the family, then whatever else has a published value or, of an unknown family, a best one."""
    known = {quantity.metric: quantity for quantity in group.family.quantities}
    found = [known[metric] for metric in known if any(metric in member.metrics for member in group.members)]
    for reference in references:
        quantity = known.get(reference.metric) or Quantity(reference.metric, reference.metric, "", reference.better)
        found += [quantity] if quantity not in found else []
    if not known:
        judged = {name for member in group.members for name, entry in member.metrics.items() if "best" in entry}
        have = {quantity.metric for quantity in found}
        found += [Quantity(metric, metric) for metric in sorted(judged - have)]
    return found


def _of_quantity(group: Group, quantity: Quantity, references: list[Reference]) -> list[Result]:
    """One row for each protocol; one row too where nothing was measured."""
    by_protocol: dict[str, list[Member]] = {}
    for member in group.members:
        if member.value(quantity.metric) is not None:
            protocol = json.dumps(protocol_of(quantity.metric, member.protocol))
            by_protocol.setdefault(protocol, []).append(member)
    if not by_protocol:
        absent = "not measured" if group.members else _how_ended(group)
        return [_row(group, quantity, expected_protocol(quantity.metric, group.settings), [], references, absent)]
    return [
        _row(group, quantity, json.loads(protocol), members, references, "not measured")
        for protocol, members in by_protocol.items()
    ]


def _how_ended(group: Group) -> str:
    return ", ".join(dict.fromkeys(run.state for run in group.unfinished))


def _row(
    group: Group,
    quantity: Quantity,
    protocol: dict[str, str],
    members: list[Member],
    references: list[Reference],
    absent: str,
) -> Result:
    finals = _values(members, quantity.metric, "final")
    # What was measured once, at the end, has no best value to speak of.
    often = [member for member in members if len(member.run.curves.get(quantity.metric, [])) > 1]
    bests = _values(often, quantity.metric, "best")
    final, best = (estimate(values) if values else None for values in (finals, bests))
    best_or_only = best or final
    at = {"final": final.mean if final else None, "best": best_or_only.mean if best_or_only else None}
    comparisons = tuple(compare(reference, at[reference.at], absent) for reference in references)
    truths = [truth for member in members if (truth := _truth(quantity, member)) is not None]
    return Result(
        group.family,
        group.experiment,
        group.variant,
        group,
        quantity,
        protocol,
        tuple(members),
        final,
        best,
        standard_error(members, quantity.metric),
        truths[0] if truths else None,
        comparisons,
        "measured" if members else absent,
    )


def _values(members: Sequence[Member], metric: str, at: str) -> list[float]:
    return [value for member in members if (value := member.value(metric, at)) is not None]


def standard_error(members: Sequence[Member], metric: str) -> float | None:
    """Of a metric over its split: the mean over seeds, which are measured on the same images or points."""
    errors = _values(members, metric + SPREAD, "final")
    return math.fsum(errors) / len(errors) if errors and len(errors) == len(members) else None


def _truth(quantity: Quantity, member: Member) -> float | None:
    return member.value(quantity.truth) if isinstance(quantity.truth, str) else quantity.truth


def _not_run(groups: Sequence[Group], catalog: Catalog) -> list[Result]:
    """The published values that no run of the experiment as it stands speaks of, each expected under its protocol."""
    ran: dict[str, list[Reference]] = {}
    for group in groups:
        own = [reference for reference in _references(group, catalog) if _as_published(group, reference)]
        ran.setdefault(group.experiment, []).extend(own)
    found = []
    for experiment in catalog:
        family = family_of(experiment.task)
        known = {quantity.metric: quantity for quantity in family.quantities}
        together: dict[str, list[Reference]] = {}
        for reference in _own(experiment, catalog):
            if reference not in ran.get(experiment.name, []):
                key = json.dumps([reference.metric, reference.only], sort_keys=True)
                together.setdefault(key, []).append(reference)
        for own in together.values():
            metric, only = own[0].metric, own[0].only
            asked = changes({key: experiment.flat.get(key) for key in only}, dict(only))
            if asked and _has_an_experiment(experiment.flat | only, catalog):
                continue
            quantity = known.get(metric) or Quantity(metric, metric, "", own[0].better)
            comparisons = tuple(compare(reference, None, "not run") for reference in own)
            protocol = expected_protocol(metric, experiment.flat | only)
            variant = ", ".join(f"{key} {value}" for key, (_, value) in asked.items())
            nothing = ((), None, None, None, None, comparisons, "not run")
            found.append(Result(family, experiment.name, variant, None, quantity, protocol, *nothing))
    return found


def _as_published(group: Group, reference: Reference) -> bool:
    """Nothing is changed but what the value asks for, a whole component where that is another one.

    A shorter run, or one of another network, is not the run that was published.
    """
    replaced = tuple(
        key.removesuffix("name") for key in reference.only if key.endswith(".name") and key in group.changes
    )
    return all(key in reference.only or key.startswith(replaced) for key in group.changes)


def _has_an_experiment(flat: dict[str, object], catalog: Catalog) -> bool:
    """These settings are those of an experiment, whatever its name."""
    return any(not changes(_unnamed(flat), _unnamed(experiment.flat)) for experiment in catalog)


def _unnamed(flat: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in flat.items() if key not in ("name", "reference")}


def _at_home(row: Result, rows: Sequence[Result]) -> Result:
    """A row without a measurement joins the table that its configuration would lead to."""
    if row.members:
        return row
    for other in rows:
        same = other.quantity == row.quantity and other.family == row.family and other.members
        if same and other.group and expected_protocol(row.quantity.metric, other.group.settings) == row.protocol:
            return dataclasses.replace(row, protocol=other.protocol)
    return row
