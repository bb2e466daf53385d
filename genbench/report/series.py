"""Experiments on data with a number that was varied, such as the distance of two distributions: one table over it.

Each of its values makes another problem, so they are read along the number, and not ranked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from genbench.identity import without, words
from genbench.numerals import duration, number
from genbench.report.cells import (
    ERRORS,
    Cell,
    Table,
    error_cells,
    estimate_text,
    how_to_read,
    numeric,
    text,
    truth_cell,
)
from genbench.report.groups import NOT_SETTINGS, Group, Result, headline, mean_of, protocol_text

__all__ = ["Series", "judged", "series", "series_row", "series_tables"]

FEWEST = 5  # changed groups: fewer are listed one by one


@dataclass(frozen=True)
class Series:
    """Groups of one experiment that differ in one number of their data set."""

    key: str
    """Of the number."""

    members: tuple[tuple[float, Group], ...]
    """In the order of the number."""

    @property
    def name(self) -> str:
        """Short for the key."""
        return self.key.rpartition(".")[2]

    @property
    def changed(self) -> list[tuple[float, Group]]:
        """Those with another number than the experiment's own."""
        return [(number, one) for number, one in self.members if self.key in one.first.changes]

    @property
    def words(self) -> str:
        """What was changed in all that are changed, and from where to where their numbers go."""
        numbers = [number for number, _ in self.changed]
        changes = self.changed[0][1].first.changes
        others = words({key: value for key, value in changes.items() if key != self.key})
        return ", ".join([*others, f"{self.name}: {len(numbers)} values, {numbers[0]:g} to {numbers[-1]:g}"])


def series(groups: Sequence[Group]) -> list[Series]:
    """What of them belongs together but for one number of the data set; no group is in two of them."""
    found = []
    taken: set[Group] = set()
    keys = dict.fromkeys(key for one in groups for key in one.first.summary["settings"])
    for key in (key for key in keys if key.startswith("dataset.")):
        alike: dict[str, list[tuple[float, Group]]] = {}
        for one in groups:
            chosen = without(one.first.summary["settings"], NOT_SETTINGS) | one.first.parent
            number = chosen.pop(key, None)
            if one not in taken and isinstance(number, int | float) and not isinstance(number, bool):
                rest = json.dumps([one.experiment, chosen], sort_keys=True)
                alike.setdefault(rest, []).append((number, one))
        for members in alike.values():
            members.sort(key=lambda member: member[0])
            together = Series(key, tuple(members))
            if len(together.changed) >= FEWEST:
                found.append(together)
                taken.update(one for _, one in members)
    return found


def judged(each: Series, found: Mapping[Group, Sequence[Result]]) -> bool:
    """One of the changed groups has a verdict of its own."""
    return any(row.comparisons or row.impossible for _, one in each.changed for row in found[one])


def series_row(each: Series, found: Mapping[Group, Sequence[Result]], link: str) -> tuple[Cell, ...]:
    """All changed groups in one row of the first table: from where to where their values and truths go."""
    groups = [one for _, one in each.changed]
    told = [row for row in (headline(found[one]) for one in groups) if row]
    told = [row for row in told if row.quantity.name == told[0].quantity.name]
    states = Counter(run.state for one in groups for run in one.others)
    seeds = _range([len(one.done) for one in groups], 0)
    quantity = told[0].quantity if told else None
    digits = quantity.decimals if quantity else None
    truths = _range([row.truth for row in told if row.truth is not None], digits)
    return (
        text(groups[0].experiment, small=each.words, link=link),
        numeric(seeds, small=", ".join(f"+ {count} {state}" for state, count in states.items())),
        numeric(
            _range([row.final.mean for row in told], digits),
            small=f"{quantity.title} {quantity.arrow}".strip() if quantity else "",
        ),
        numeric(truths, small=quantity.truth_label if quantity and truths else ""),
        text(),
        numeric(duration(mean_of([run for one in groups for run in one.done], "wall_seconds"))),
    )


def _range(values: Sequence[float], decimals: int | None) -> str:
    ends = (min(values), max(values)) if values else ()
    return " … ".join(dict.fromkeys(number(end, decimals) for end in ends))


def series_tables(found: Iterable[Series], results: Mapping[Group, Sequence[Result]]) -> list[Table]:
    """For each quantity of a series a table with a row for each of its numbers."""
    tables = []
    for each in found:
        rows: dict[str, list[tuple[float, Result]]] = {}
        for value, one in each.members:
            for row in results[one]:
                rows.setdefault(row.quantity.name, []).append((value, row))
        tables += [_table(each.name, quantity) for quantity in rows.values() if len(quantity) > 1]
    return tables


def _table(name: str, rows: Sequence[tuple[float, Result]]) -> Table:
    first, quantity = rows[0][1], rows[0][1].quantity
    common = set.intersection(*(set(row.protocol.items()) for _, row in rows))
    columns = (name, "seeds", f"final {quantity.arrow}".strip(), *ERRORS, quantity.truth_label)
    cells = tuple(
        (
            numeric(f"{value:g}"),
            numeric(str(row.final.n), small=row.group.diverged),
            numeric(estimate_text(row.final, quantity.decimals)),
            *error_cells(row),
            truth_cell(row),
        )
        for value, row in rows
    )
    protocol = protocol_text({key: value for key, value in first.protocol.items() if (key, value) in common})
    note = " · ".join(filter(None, (protocol, how_to_read([row for _, row in rows]))))
    return Table(f"{first.group.experiment}: {quantity.title}", note, columns, cells).without_empty_columns()
