"""Experiments on data with a number that was varied, such as the distance of two distributions: one table over it.

Each of its values makes another problem, so they are read along the number, and not ranked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from genbench.identity import words
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
from genbench.report.groups import Group, Result, headline, mean_of, protocol_text, telling

__all__ = ["Series", "folds", "series", "series_row", "series_tables"]

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
        return [(value, one) for value, one in self.members if self.key in one.first.changes]

    @property
    def words(self) -> str:
        """What was changed in all that are changed, and from where to where their numbers go."""
        numbers = [value for value, _ in self.changed]
        changes = self.changed[0][1].first.changes
        others = words({key: value for key, value in changes.items() if key != self.key})
        return ", ".join([*others, f"{self.name}: {len(numbers)} values, {numbers[0]:g} to {numbers[-1]:g}"])


def series(groups: Sequence[Group]) -> list[Series]:
    """What of them belongs together but for one number of the data set; no group is in two of them."""
    settings = {one: telling(one.first) for one in groups}
    numbers: dict[str, dict[Group, float]] = {}
    for one, chosen in settings.items():
        for key, value in chosen.items():
            if key.startswith("dataset.") and isinstance(value, int | float) and not isinstance(value, bool):
                numbers.setdefault(key, {})[one] = value
    found: list[Series] = []
    taken: set[Group] = set()
    for key in [key for key, of in numbers.items() if len(set(of.values())) >= FEWEST]:
        alike: dict[str, list[tuple[float, Group]]] = {}
        for one, value in numbers[key].items():
            if one not in taken:
                rest = json.dumps([one.experiment, settings[one] | {key: None}], sort_keys=True)
                alike.setdefault(rest, []).append((value, one))
        for members in alike.values():
            members.sort(key=lambda member: member[0])
            together = Series(key, tuple(members))
            if len(together.changed) >= FEWEST:
                found.append(together)
                taken.update(one for _, one in members)
    return found


def folds(each: Series, found: Mapping[Group, Sequence[Result]]) -> bool:
    """Whether one row can stand for all changed groups: none has a verdict of its own, and what they are known by was
    measured alike, so that one table has it."""
    rows = [found[one] for _, one in each.changed]
    told = [_measured(each, row) for row in map(headline, rows) if row]
    return len(set(told)) <= 1 and not any(row.comparisons or row.impossible for group in rows for row in group)


def _measured(each: Series, row: Result) -> str:
    """What it is, and by which protocol, the number aside."""
    return json.dumps([row.quantity.name, sorted(row.protocol.items() - {(each.name, row.protocol.get(each.name))})])


def series_row(each: Series, found: Mapping[Group, Sequence[Result]], link: str) -> tuple[Cell, ...]:
    """All changed groups in one row of the first table: from where to where their values and truths go."""
    groups = [one for _, one in each.changed]
    told = [row for row in (headline(found[one]) for one in groups) if row]
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
    """For each quantity and protocol of a series a table with a row for each of its numbers."""
    tables = []
    for each in found:
        rows: dict[str, list[tuple[float, Result]]] = {}
        for value, one in each.members:
            for row in results[one]:
                rows.setdefault(_measured(each, row), []).append((value, row))
        tables += [_table(each.name, quantity) for quantity in rows.values() if len(quantity) > 1]
    return tables


def _table(name: str, rows: Sequence[tuple[float, Result]]) -> Table:
    first, quantity = rows[0][1], rows[0][1].quantity
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
    protocol = protocol_text({key: value for key, value in first.protocol.items() if key != name})
    note = " · ".join(filter(None, (protocol, how_to_read([row for _, row in rows]))))
    return Table(f"{first.group.experiment}: {quantity.title}", note, columns, cells).without_empty_columns()
