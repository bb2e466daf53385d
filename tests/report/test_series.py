"""A number of the data set that was varied makes one table over it, and one row of the first one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kites import CURVES

from genbench.config import Reference
from genbench.engine.measurement import Measurement
from genbench.report import tables
from genbench.report.cells import Cell, Table
from genbench.report.groups import Group, Result, group, results
from genbench.report.reading import find, read
from genbench.report.series import Series, series, series_tables

MakeRun = Callable[..., Path]
WINDS = (0.5, 16.0, 2.0, 4.0, 8.0)  # the experiment's own is 1


def fly(make_run: MakeRun, winds: tuple[float, ...] = WINDS, **options: object) -> None:
    """The experiment as it is and with other winds, two seeds of each: 100 m higher for each unit of wind."""
    for wind in (1.0, *winds):
        height = Measurement(100.0 * wind, 0.5, truth=100.0 * wind + 1, protocol={"wind": f"{wind:g}"})
        for seed in (1, 2):
            changed = {"dataset.wind": wind} if wind != 1.0 else {}
            make_run(seed=seed, logged=CURVES | {20: {"test/height": height}}, changed=changed, **options)


def judged(outputs: Path) -> tuple[list[Series], dict[Group, list[Result]]]:
    groups, _ = group([read(path) for path in find([outputs], [])])
    return series(groups), {one: results(one)[0] for one in groups}


def shown(rows: tuple[tuple[Cell, ...], ...]) -> list[list[str]]:
    return [[" | ".join(filter(None, (*cell.lines, cell.small))) for cell in row] for row in rows]


def first_table(together: Sequence[Series], found: Mapping[Group, list[Result]]) -> Table:
    return tables.my_runs_table([(one, found[one], "") for one in found], [(each, "kites") for each in together])


def test_every_value_stands_in_a_table_in_the_order_of_the_number(make_run: MakeRun, outputs: Path) -> None:
    fly(make_run)
    heights, tilts = series_tables(*judged(outputs))
    assert heights.title == "red-kite: mean height (m)"
    assert heights.columns == ("wind", "seeds", "final ↑", "standard error", "of a perfect kite")
    assert shown(heights.rows)[:3] == [
        ["0.5", "2", "50.00 (50.00 … 50.00)", "0.50", "51.00 | off by −1.00"],
        ["1", "2", "100.00 (100.00 … 100.00)", "0.50", "101.00 | off by −1.00"],
        ["2", "2", "200.00 (200.00 … 200.00)", "0.50", "201.00 | off by −1.00"],
    ]
    assert [row[0].lines for row in tilts.rows] == [("0.5",), ("1",), ("2",), ("4",), ("8",), ("16",)]
    assert heights.note.startswith("arcs; split 30/20/10 · "), "what differs is no part of the common protocol"


def test_the_first_table_has_one_row_for_all_that_are_changed(make_run: MakeRun, outputs: Path) -> None:
    fly(make_run)
    together, found = judged(outputs)
    table = first_table(together, found)
    assert [row[0].link for row in table.rows] == ["", "kites"]
    rows = shown(table.rows)
    assert [row[0] for row in rows] == ["red-kite", "red-kite | wind: 5 values, 0.5 to 16"]
    assert rows[1][1:4] == ["2", "50.00 … 1600.00 | mean height (m) ↑", "51.00 … 1601.00 | of a perfect kite"]
    cost = tables.cost_table(list(found), together)
    assert [row[:2] for row in shown(cost.rows)] == [
        ["red-kite", "2"],
        ["red-kite | wind: 5 values, 0.5 to 16", "10"],
    ]


def test_runs_that_are_not_done_are_counted(make_run: MakeRun, outputs: Path) -> None:
    fly(make_run)
    make_run(seed=3, changed={"dataset.wind": 4.0}, status="running")
    row = shown(first_table(*judged(outputs)).rows)[1]
    assert row[1] == "2 | + 1 running"


def test_other_changes_are_told_and_keep_series_apart(make_run: MakeRun, outputs: Path) -> None:
    fly(make_run)
    for wind in WINDS:
        make_run(changed={"dataset.wind": wind, "model.layers": 2})
    told = ["wind: 5 values, 0.5 to 16", "layers=2, wind: 5 values, 0.5 to 16"]
    assert [each.words for each in judged(outputs)[0]] == told


def test_few_groups_and_other_numbers_are_listed_one_by_one(make_run: MakeRun, outputs: Path) -> None:
    fly(make_run, WINDS[:4])
    for layers in range(1, 7):
        make_run(changed={"model.layers": layers})
    assert judged(outputs)[0] == []


def test_a_verdict_is_never_folded(make_run: MakeRun, outputs: Path) -> None:
    fly(make_run, references=[Reference("test/height", 90.0, "someone")])
    together, found = judged(outputs)
    assert len(together) == 1
    assert len(first_table(together, found).rows) == 6


def test_what_was_measured_by_other_protocols_is_not_mixed(make_run: MakeRun, outputs: Path) -> None:
    """Nor folded: no table would have all of the values."""
    for wind in (1.0, *WINDS):
        height = Measurement(100.0 * wind, 0.5, protocol={"wind": f"{wind:g}", "flights": "9" if wind > 4 else "3"})
        make_run(logged=CURVES | {20: {"test/height": height}}, changed={"dataset.wind": wind} if wind != 1.0 else {})
    together, found = judged(outputs)
    few, many = (table for table in series_tables(together, found) if "height" in table.title)
    assert [[row[0].lines[0] for row in table.rows] for table in (few, many)] == [["0.5", "1", "2", "4"], ["8", "16"]]
    assert ["flights 3" in few.note, "flights 9" in many.note] == [True, True]
    assert len(first_table(together, found).rows) == 6
