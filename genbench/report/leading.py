"""Which groups of a large sweep are shown one by one: nobody looks through thousands of sections and curves."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from genbench.report.groups import Group, Result, headline

__all__ = ["CURVES", "SECTIONS", "best", "leading", "note"]

SECTIONS = 100  # of a family
CURVES = 24  # of a quantity: four charts


def leading(groups: Sequence[tuple[Group, list[Result]]]) -> list[bool]:
    """Which of them have a section of their own: all of a family of at most `SECTIONS`.

    Of a larger family these are equally many of each experiment: those whose headline has the best final values.
    Groups that measured nothing come last.
    """
    ranked: dict[str, list[tuple[int, int]]] = defaultdict(list)
    experiments: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, (one, _) in enumerate(groups):
        experiments[one.family.title, one.experiment].append(index)
    for (family, _), members in experiments.items():
        members.sort(key=lambda index: _loss(headline(groups[index][1])))  # stable: equal ones stay in order
        ranked[family] += enumerate(members)
    chosen = {index for members in ranked.values() for _, index in sorted(members)[:SECTIONS]}
    return [index in chosen for index in range(len(groups))]


def best(results: Sequence[Result]) -> list[Result]:
    """At most `CURVES` of one quantity, in their order: those with the best final values."""
    ranked = sorted(range(len(results)), key=lambda index: _loss(results[index]))
    return [results[index] for index in sorted(ranked[:CURVES])]


def _loss(result: Result | None) -> float:
    """Less is better."""
    if result is None or not math.isfinite(result.final.mean):
        return math.inf
    return {"lower": 1.0, "higher": -1.0}.get(result.quantity.better, 0.0) * result.final.mean


def note(groups: Sequence[tuple[Group, bool]]) -> str:
    """A sentence about families of which not every group has a section of its own; empty if there is none."""
    counts = Counter(one.family.title for one, _ in groups)
    shown = Counter(one.family.title for one, has_section in groups if has_section)
    left = [f"{shown[name]} of {count:,} of {name}" for name, count in counts.items() if shown[name] < count]
    return f" The best have sections and pictures, {', '.join(left)}; the tables hold all." if left else ""
