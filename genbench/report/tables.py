"""The tables of a report."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Sequence

from genbench.catalogue.files import offered
from genbench.config import Reference
from genbench.engine.measurement import DEFINING, TEST, VALIDATION, Quantity
from genbench.numerals import duration, number
from genbench.report.cells import (
    ERRORS,
    Cell,
    Table,
    error_cells,
    error_text,
    estimate_text,
    how_to_read,
    numeric,
    text,
    truth_cell,
    verdict_cell,
)
from genbench.report.groups import Comparison, Group, Result, headline, mean_of, protocol_text
from genbench.report.reading import Problem, Run
from genbench.report.series import Series, folds, series_row

__all__ = [
    "across_tables",
    "cost_table",
    "my_runs_table",
    "problems_table",
    "published_table",
    "quantity_tables",
    "reached_table",
]


def _published(comparisons: Sequence[Comparison], decimals: int | None) -> Cell:
    at = [" (best)" if c.reference.at == "best" else "" for c in comparisons]
    values = [number(c.reference.value, decimals) + where for c, where in zip(comparisons, at, strict=True)]
    return numeric(*values, small="; ".join(dict.fromkeys(c.reference.source for c in comparisons)))


def _state(one: Group) -> str:
    """How the runs of a group ended that are not done."""
    states = [run.state for run in one.others if not (one.done and run.state == "diverged")]
    found = [f"{states.count(state)} {state}" if len(states) > 1 else state for state in dict.fromkeys(states)]
    if one.others and not one.done:
        return f"{', '.join(found)} at step {one.first.step:,}"
    return ", ".join(filter(None, (one.diverged, *(f"+ {state}" for state in found))))


# The whole and its parts


def my_runs_table(
    groups: Sequence[tuple[Group, list[Result], str]], series: Sequence[tuple[Series, str]] = ()
) -> Table:
    """One row for each group (with its results and the anchor of its section): the first thing that is looked at.

    One row for all that are changed of a series (with the anchor of its family, which has their values).
    """
    columns = ("run", "seeds", "value", "compared with", "verdict", "time")
    measured = {one: results for one, results, _ in groups}
    folded = {one: (each, link) for each, link in series if folds(each, measured) for _, one in each.changed}
    rows = []
    for one, results, anchor in groups:
        if one in folded:
            each, link = folded[one]
            rows += [series_row(each, measured, link)] if one is each.changed[0][1] else []
            continue
        told = headline(results)
        state = _state(one)
        digits = told.quantity.decimals if told else None
        found = told.comparisons if told else ()
        value = estimate_text(told.best or told.final if _at_best(told) else told.final, digits) if told else ""
        rows.append(
            (
                text(one.experiment, small=one.words, link=anchor),
                numeric(str(len(one.done)) if one.done else "", small=state if one.done else ""),
                numeric(value, small=_what(told)) if told else text(state),
                _published(found, digits) if found or not told else _true(told),
                verdict_cell(told) if told else text(),
                numeric(duration(mean_of(one.done, "wall_seconds"))),
            )
        )
    return Table("My runs", "", columns, tuple(rows))


def _what(told: Result) -> str:
    """What a value is, with its error."""
    name = f"{told.quantity.title} {told.quantity.arrow}".strip()
    return "; ".join(part for part in (name, error_text(told)) if part)


def _true(told: Result) -> Cell:
    label = "" if told.truth is None else told.quantity.truth_label
    return numeric(number(told.truth, told.quantity.decimals), small=label)


def _at_best(told: Result) -> bool:
    return bool(told.comparisons) and all(c.reference.at == "best" for c in told.comparisons)


def quantity_tables(results: Iterable[Result]) -> list[Table]:
    """Rows of one family as tables, one for each quantity and protocol, so that no column mixes unlike numbers.

    A quantity of one group alone has nothing to be compared with but its own section.
    """
    found: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        protocol = json.dumps(result.protocol, sort_keys=True)
        found.setdefault(result.quantity.name, {}).setdefault(protocol, []).append(result)
    tables = [rows for of_quantity in found.values() for rows in of_quantity.values()]
    return [_quantity_table(rows) for rows in tables if len(rows) > 1 or rows[0].comparisons or rows[0].impossible]


def _quantity_table(rows: list[Result]) -> Table:
    quantity, digits = rows[0].quantity, rows[0].quantity.decimals
    arrow = quantity.arrow
    values = (f"final {arrow}".strip(), *ERRORS, f"best {arrow}".strip(), quantity.truth_label)
    columns = ("experiment", "seeds", *values, "published", "verdict")
    best = [_best([row.final.mean for row in rows], quantity.better)]
    best.append(_best([row.best.mean for row in rows if row.best], quantity.better))
    cells = []
    for row in rows:
        cells.append(
            (
                text(row.group.experiment, small=row.group.words),
                numeric(str(row.final.n), small=row.group.diverged),
                numeric(estimate_text(row.final, digits), bold=row.final.mean == best[0]),
                *error_cells(row),
                numeric(estimate_text(row.best, digits), bold=row.best is not None and row.best.mean == best[1]),
                truth_cell(row),
                _published(row.comparisons, digits),
                verdict_cell(row),
            )
        )
    note = " · ".join(part for part in (protocol_text(rows[0].protocol), how_to_read(rows)) if part)
    return Table(quantity.title, note, columns, tuple(cells)).without_empty_columns()


def _best(values: Sequence[float], better: str) -> float | None:
    """The best of at least two values of which it is known which way is better."""
    if len(values) < 2 or not better:
        return None
    return max(values) if better == "higher" else min(values)


def across_tables(groups: Sequence[tuple[Group, list[Result]]]) -> list[Table]:
    """Families that say what likelihood their models give, and at what cost: a table for each data set."""
    found: dict[str, list[tuple[Group, Result]]] = {}
    for one, results in groups:
        if one.family.likelihood and results:
            told = results[0]
            said = {
                key: told.protocol[key]
                for key in ("dataset", "binarization", "split", *DEFINING)
                if key in told.protocol
            }
            found.setdefault(protocol_text(said), []).append((one, told))
    return [
        _across_table(data, rows) for data, rows in found.items() if len({one.family.title for one, _ in rows}) > 1
    ]


def _across_table(data: str, told: Sequence[tuple[Group, Result]]) -> Table:
    titles = list(dict.fromkeys(row.quantity.title for _, row in told))
    columns = ("family", "experiment", "likelihood", *titles, "training", "steps/s", "samples/s")
    rows = []
    for one, row in told:
        values = [
            numeric(estimate_text(row.final, row.quantity.decimals), small=error_text(row))
            if row.quantity.title == title
            else text()
            for title in titles
        ]
        rows.append(
            (
                text(one.family.title),
                text(one.experiment, small=" · ".join(filter(None, (one.words, one.diverged)))),
                text(one.family.likelihood),
                *values,
                numeric(duration(mean_of(one.done, "training_seconds"))),
                numeric(_significant(mean_of(one.done, "steps_per_second"))),
                numeric(_significant(mean_of(one.done, "samples_per_second"))),
            )
        )
    note = f"{how_to_read([row for _, row in told])}; values of different columns are not to be compared".strip("; ")
    return Table(data, note, columns, tuple(rows)).without_empty_columns()


def reached_table(rows: Iterable[Result]) -> Table:
    """When an evaluation during training first was as good as a published value, without tolerance.

    A value published for the test split, which is measured at the end alone, is awaited on the validation split.
    """
    columns = ("experiment", "quantity", "published", "runs that reached it", "steps", "training", "device")
    cells = []
    for row in rows:
        quantity, watched = _watched(row)
        for comparison in row.comparisons if watched else ():
            reference = comparison.reference
            found = [(run, first) for run in watched if (first := run.first(quantity.name, reference))]
            count = len(found)
            devices = dict.fromkeys(str(run.summary.get("device") or "") for run, _ in found)
            cells.append(
                (
                    text(row.group.experiment, small=row.group.words),
                    text(quantity.title),
                    numeric(number(reference.value, quantity.decimals), small=reference.source),
                    numeric(f"{count} of {len(watched)}", small=row.group.diverged),
                    numeric(f"{sum(first.step for _, first in found) / count:,.0f}" if found else ""),
                    numeric(duration(math.fsum(first.value for _, first in found) / count) if found else ""),
                    text(", ".join(devices)),
                )
            )
    note = "means over the runs that reached it; evaluations are not counted"
    return Table("Time to a published value", note, columns, tuple(cells))


def _watched(row: Result) -> tuple[Quantity, list[Run]]:
    """A result's quantity as measured during training, on its own or the validation split, and the runs that did."""
    for name in (row.quantity.name, row.quantity.name.replace(TEST, VALIDATION, 1)):
        runs = [run for run in row.runs if len(run.curves.get(name, ())) > 2]
        for quantity in runs[0].quantities if runs else ():
            if quantity.name == name:
                return quantity, runs
    return row.quantity, []


def cost_table(groups: Sequence[Group], series: Sequence[Series] = ()) -> Table:
    """Speed and cost of each group's finished runs, or of all that are changed of a series, means over those of one
    device and size."""
    columns = ("experiment", "runs", "steps", "parameters", "steps/s", "training", "wall time", "memory", "device")
    folded: dict[Group, Group | Series] = {one: each for each in series for _, one in each.changed}
    alike: dict[tuple[Group | Series, tuple[str, ...]], list[Run]] = {}
    for one in groups:
        each = folded.get(one, one)
        for run in one.done:  # speeds of different machines have no mean
            size = tuple(str(run.summary.get(name) or "") for name in ("device", "arithmetic", "step", "parameters"))
            alike.setdefault((each, size), []).append(run)
    rows = []
    for (each, (device, arithmetic, *_)), runs in alike.items():
        memory, summary = mean_of(runs, "peak_memory_mib"), runs[0].summary
        rows.append(
            (
                text(runs[0].name, small=each.words),
                numeric(str(len(runs))),
                numeric(f"{summary['step']:,}"),
                numeric(f"{summary.get('parameters') or 0:,}"),
                numeric(_significant(mean_of(runs, "steps_per_second"))),
                numeric(duration(mean_of(runs, "training_seconds"))),
                numeric(duration(mean_of(runs, "wall_seconds"))),
                numeric("" if memory is None else f"{memory:,.0f} MiB"),
                text(device, small=arithmetic),
            )
        )
    return Table("Speed and cost", "means over runs", columns, tuple(rows)).without_empty_columns()


def _significant(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# What is not there


def missing(compared: Collection[tuple[str, str, str]]) -> list[tuple[str, Reference]]:
    """Experiments, plug-ins' included, with each of their published values that no measurement was compared with.

    `compared` are the others, as (experiment, metric, label).
    """
    everything = [(each.name, value) for each in offered().experiments.values() for value in each.references]
    return [(name, value) for name, value in everything if (name, value.metric, value.label) not in compared]


def published_table(published: Sequence[tuple[str, Reference]]) -> Table:
    """Published values that nothing was run for, with their experiments."""
    rows = tuple(
        (
            text(experiment),
            text(reference.metric + (" (best)" if reference.at == "best" else "")),
            numeric(number(reference.value, digits=10)),
            text(reference.source),
            Cell((protocol_text(reference.protocol),), kind="wide"),
        )
        for experiment, reference in published
    )
    return Table("", "", ("experiment", "metric", "published", "source", "protocol"), rows)


def problems_table(problems: Sequence[Problem]) -> Table:
    """What was left out, and why."""
    rows = [(Cell((str(problem.path),), kind="code"), Cell((problem.reason,), kind="wide")) for problem in problems]
    return Table("Left out", "", ("what", "why"), tuple(rows))
