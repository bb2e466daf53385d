"""Seeds are averaged, protocols are not, and every published value has its verdict."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from kites import HEIGHT, KITES, LINE, TILT
from matplotlib.figure import Figure

from genbench import compose
from genbench.config import Reference
from genbench.engine.measurement import Family, Measurement, Quantity
from genbench.figures.curves import Band
from genbench.figures.style import new_figure
from genbench.numerals import duration, number, signed
from genbench.report import details, pictures, tables
from genbench.report.cells import Cell, Table, markdown, text
from genbench.report.files import records
from genbench.report.groups import Group, Result, group, protocol_text, results
from genbench.report.reading import Problem, find, read

MakeRun = Callable[..., Path]


def judge(outputs: Path) -> tuple[list[tuple[Group, list[Result]]], list[Problem]]:
    groups, problems = group([read(path) for path in find([outputs], [])])
    rows = []
    for one in groups:
        found, mixed = results(one)
        rows.append((one, found))
        problems += mixed
    return rows, problems


def measured(outputs: Path, metric: str = "test/height") -> list[Result]:
    rows = [row for _, found in judge(outputs)[0] for row in found if row.quantity.name == metric]
    assert rows
    return rows


def column(table: Table, title: str) -> list[tuple[str, ...]]:
    k = [name.split(" ")[0] for name in table.columns].index(title)
    return [row[k].lines for row in table.rows]


def my_runs(outputs: Path) -> Table:
    return tables.my_runs_table([(one, found, one.title) for one, found in judge(outputs)[0]])


# Groups


def test_only_runs_of_one_configuration_are_averaged(make_run: MakeRun, outputs: Path) -> None:
    for seed in (1, 2):
        make_run(seed=seed)
    make_run(seed=3, changed={"model.layers": 2})
    make_run(seed=4, changed={"trainer.log_every": 7, "device": "cuda"})  # computes the same
    make_run(seed=5, changed={"task.compile": True})
    found = [([run.seed for run in row.runs], row.group.words) for row in measured(outputs)]
    assert found == [([1, 2, 4, 5], ""), ([3], "layers=2")]


def test_other_names_are_other_groups(make_run: MakeRun, outputs: Path) -> None:
    for name in ("kite-10", "kite-2"):
        make_run(name)
    assert [one.title for one, _ in judge(outputs)[0]] == ["kite-2", "kite-10"]


def test_the_same_run_counts_once(make_run: MakeRun, outputs: Path) -> None:
    first, second = make_run(), make_run(root=outputs / "copy")
    (row,) = measured(outputs)
    assert len(row.runs) == 1
    (problem,) = judge(outputs)[1]
    assert {problem.path, row.runs[0].path} == {first, second}
    assert problem.reason == f"same configuration and seed as {row.runs[0].path}: counted once"


@pytest.mark.parametrize("status", ["failed", "interrupted", "running", "diverged"])
def test_runs_that_are_not_done_are_no_part_of_a_mean(status: str, make_run: MakeRun, outputs: Path) -> None:
    make_run(seed=1)
    make_run(seed=2, logged={10: {"test/height": -500.0}}, status=status)
    make_run("box-kite", 1, {10: {"test/height": -500.0}}, status=status)
    (row,) = measured(outputs)
    assert (row.final.n, row.final.mean) == (1, 101.0)
    table = my_runs(outputs)
    assert column(table, "run") == [("box-kite",), ("red-kite",)]
    assert column(table, "value") == [(f"{status} at step 10",), ("101.00",)]
    told = "1 of 2 diverged" if status == "diverged" else f"+ {status}"
    assert [row[table.columns.index("seeds")].small for row in table.rows] == ["", told]


def test_seeds_that_diverged_are_told_beside_mean_and_verdict(make_run: MakeRun, outputs: Path) -> None:
    """Wherever the mean of the others stands."""
    make_run("box-kite", 1)
    for seed in (1, 2):
        make_run(seed=seed, references=[Reference("test/height", 100.0, "someone")])
    for root in (None, outputs / "copy"):  # the same one twice
        make_run(seed=3, logged={10: {"test/height": 999.0}}, status="diverged", root=root,
                 references=[Reference("test/height", 100.0, "someone")])  # fmt: skip
    make_run(seed=4, status="running")
    told = "1 of 3 diverged"
    row = next(row for row in measured(outputs) if row.group.experiment == "red-kite")
    assert (row.final.n, row.final.mean, row.group.diverged) == (2, 101.0, told)
    table = my_runs(outputs)
    (cells,) = [cells for cells in table.rows if cells[0].lines == ("red-kite",)]
    assert cells[table.columns.index("seeds")].small == f"{told}, + running"
    assert cells[table.columns.index("verdict")].small == told
    (table,) = tables.quantity_tables([row])
    for title in ("seeds", "verdict"):
        assert table.rows[0][table.columns.index(title)].small == told
    assert details.values_table([row]).note.startswith(f"{told} · ")
    across = tables._across_table("", [(row.group, row)])
    assert across.rows[0][across.columns.index("experiment")].small == told
    (record,) = records([row])
    assert (record["seeds"], record["diverged"], record["verdict"]) == ("1 2", "3", "reached")
    (problem,) = judge(outputs)[1]
    assert "counted once" in problem.reason


def test_a_diverged_run_has_reached_nothing(make_run: MakeRun) -> None:
    """Whatever it had measured before."""
    references = [Reference("test/height", 100.0, "someone"), Reference("test/line", 1.0, "someone")]
    run = make_run(logged={10: {"test/height": 101.0}}, status="diverged", references=references)
    rows = json.loads((run / "summary.json").read_text())["reference"]
    assert [(row["measured"], row["verdict"]) for row in rows] == [(101.0, "diverged"), (None, "not measured")]


@pytest.mark.parametrize(("least", "greatest"), [(None, 104.0), (120.0, None), (120.0, 130.0)])
def test_an_impossible_value_is_said_everywhere(
    least: float | None, greatest: float | None, make_run: MakeRun, outputs: Path
) -> None:
    """One of three seeds has it: then the mean is none that could be reached."""
    references = [Reference("test/height", 100.0, "someone")]
    for seed, value in ((1, 103.0), (2, 104.5), (3, 110.0)):
        limits = {"least": least, "greatest": greatest} if seed == 3 else {}
        logged = {10: {"valid/tilt": 0.5}, 20: {"valid/tilt": 0.4, "test/height": Measurement(value, 0.5, **limits)}}
        run = make_run(seed=seed, logged=logged, references=references)
        make_run("box-kite", seed, logged)  # without anything published
        summary = json.loads((run / "summary.json").read_text())
        assert summary["reference"][0]["verdict"] == ("impossible" if seed == 3 else "reached")
    box, red = measured(outputs)
    for row, line in ((red, "‼ impossible (+5.83)"), (box, "‼ impossible")):
        for table in (tables.quantity_tables([row])[0], details.values_table([row])):
            (cell,) = [cells[table.columns.index("verdict")] for cells in table.rows]
            assert (cell.lines, cell.kind) == ((line,), "impossible")
        assert [record["verdict"] for record in records([row])] == ["impossible"]
    assert column(my_runs(outputs), "verdict") == [("‼ impossible",), ("‼ impossible (+5.83)",)]
    problems = judge(outputs)[1]
    assert {problem.path.name[:6] for problem in problems} == {"seed=3"}
    assert all("test/height is 110: impossible, no value is" in problem.reason for problem in problems)


def test_a_value_at_its_limit_is_possible(make_run: MakeRun, outputs: Path) -> None:
    make_run(logged={20: {"test/height": Measurement(105.5, 0.5, truth=104.0, greatest=104.0)}},
             references=[Reference("test/height", 100.0, "someone")])  # fmt: skip
    (row,) = measured(outputs)
    assert (row.impossible, row.comparisons[0].verdict) == (False, "reached")


def test_an_impossible_best_value_is_not_reached(make_run: MakeRun, outputs: Path) -> None:
    reference = Reference("valid/tilt", 0.26, "someone", at="best", better="lower")
    logged = {10: {"valid/tilt": -7.0}, 20: {"valid/tilt": Measurement(0.48, least=0.0)}}
    run = make_run(logged=logged, references=[reference])
    (row,) = measured(outputs, "valid/tilt")
    assert [comparison.verdict for comparison in row.comparisons] == ["impossible"]
    assert json.loads((run / "summary.json").read_text())["reference"][0]["verdict"] == "impossible"


def test_what_is_impossible_is_what_a_group_is_known_by(make_run: MakeRun, outputs: Path) -> None:
    logged = {20: {"test/height": 101.0, "test/line": Measurement(-3.0, least=0.0)}}
    make_run(logged=logged, references=[Reference("test/height", 100.0, "someone")])
    assert column(my_runs(outputs), "value") == [("−3.0",)]


def test_a_best_value_says_from_how_many_it_was_chosen(make_run: MakeRun, outputs: Path) -> None:
    run = make_run(logged={step: {"valid/tilt": 1 / step} for step in (10, 20, 30)})
    best = json.loads((run / "summary.json").read_text())["metrics"]["valid/tilt"]["best"]
    assert best == {"value": 1 / 30, "step": 30, "evaluations": 3}
    assert "best: chosen by this very value" in details.values_table(measured(outputs, "valid/tilt")).note


def test_a_running_run_is_running_and_not_failed(make_run: MakeRun, outputs: Path) -> None:
    for seed in (1, 2):
        make_run(seed=seed, status="running")
    make_run(seed=3, status="failed", error="RuntimeError: the wind dropped")
    ((one, found),) = judge(outputs)[0]
    assert found == []
    assert column(my_runs(outputs), "value") == [("2 running, 1 failed at step 20",)]
    commands = details.commands_table(one)
    assert column(commands, "status") == [("running",), ("running",), ("failed",)]
    assert column(commands, "note")[0] == ("step 20: valid/tilt 0.25, test/height 101",)
    assert column(commands, "note")[2] == ("RuntimeError: the wind dropped",)


def test_the_commands_of_a_group_repeat_every_run(make_run: MakeRun, outputs: Path) -> None:
    make_run(seed=2, changed={"model.layers": 2}, note="The line broke.\nTwice.")
    make_run(seed=1, changed={"model.layers": 2}, status="interrupted")
    ((one, _),) = judge(outputs)[0]
    table = details.commands_table(one)
    assert column(table, "command") == [
        ("genbench experiment=red-kite model.layers=2 seed=1",),
        ("genbench experiment=red-kite model.layers=2 seed=2",),
    ]
    assert column(table, "note")[1] == ("The line broke.", "Twice.")
    where = {row[table.columns.index("ran on")].small for row in table.rows}
    assert where == {"commit 0123456789ab, torch 2.4"}
    settings = details.settings_table(one.first)
    assert [(row[0].lines, row[1].lines) for row in settings.rows if row[0].bold] == [(("model.layers",), ("2",))]
    assert len(settings.rows) > 20


# Results


def test_results_follow_the_order_of_the_quantities(make_run: MakeRun, outputs: Path) -> None:
    make_run(logged={10: {"valid/tilt": 0.5}, 20: {"test/line": 7.0, "valid/tilt": 0.7, "test/height": 3.0}})
    ((_, found),) = judge(outputs)[0]
    assert [row.quantity for row in found] == [HEIGHT, TILT, LINE]
    assert [row.best and row.best.mean for row in found] == [None, 0.5, None]


def test_a_quantity_that_is_only_logged_needs_no_protocol(make_run: MakeRun, outputs: Path) -> None:
    for name in ("red-kite", "box-kite"):
        run = make_run(name, 1, {10: {"valid/tilt": 0.5}, 20: {"valid/tilt": 0.25}})
        summary = json.loads((run / "summary.json").read_text())
        del summary["metrics"]["valid/tilt"]["protocol"]
        (run / "summary.json").write_text(json.dumps(summary))
    rows = measured(outputs, "valid/tilt")
    assert [row.protocol for row in rows] == [{}, {}]
    assert len(list(pictures.compared_curves(rows, set()))) == 1


def test_verdicts_are_of_the_mean_over_seeds(make_run: MakeRun, outputs: Path) -> None:
    """−101.0, −101.4 and −102.1: the last seed alone misses −100.99 ± 0.5, their mean −101.5 too, by 0.01."""
    references = [
        Reference("test/height", -100.99, "one", tolerance=0.5),
        Reference("test/height", -101.37, "two", tolerance=0.5),
    ]
    for seed, value in enumerate((-101.0, -101.4, -102.1), 1):
        logged = {10: {"test/height": value + 0.3}, 20: {"test/height": value}}
        make_run(seed=seed, logged=logged, references=references)
    (row,) = measured(outputs)
    assert (row.final.n, row.final.mean) == (3, pytest.approx(-101.5))
    assert row.final.low is not None
    assert row.best
    assert row.best.mean == pytest.approx(-101.2)
    assert [(c.reference.value, c.verdict) for c in row.comparisons] == [(-100.99, "missed"), (-101.37, "reached")]
    assert row.comparisons[0].difference == pytest.approx(-0.51)
    (table,) = tables.quantity_tables([row])
    assert column(table, "verdict") == [("✗ missed (−0.51)", "✓ reached (−0.13)")]


def test_when_a_published_value_was_first_reached(make_run: MakeRun, outputs: Path) -> None:
    """It counts once, whatever comes later. A value that is measured at the end alone has no such time."""
    references = [
        Reference("valid/tilt", 0.3, "someone", better="lower", tolerance=0.2),
        Reference("test/height", 1.0, "someone"),
    ]
    seeds = ([0.5, 0.3, 0.4, 0.1], [0.6, 0.5, 0.4, 0.2], [0.6, 0.5, 0.4, 0.35])
    for seed, values in enumerate(seeds, 1):
        logged: dict[int, dict[str, Any]] = {10 * k: {"valid/tilt": value} for k, value in enumerate(values, 1)}
        logged[40]["test/height"] = 2.0
        make_run(seed=seed, logged=logged, references=references)
    table = tables.reached_table(measured(outputs, "valid/tilt") + measured(outputs))
    assert len(table.rows) == 1
    assert column(table, "published") == [("0.300",)]
    assert column(table, "runs") == [("2 of 3",)]
    assert column(table, "steps") == [("30",)]  # 20 and 40
    assert column(table, "training") == [(duration(3.0),)]
    assert column(table, "device") == [("a test",)]


def test_a_value_published_for_the_test_split_is_awaited_on_the_validation_split(
    make_run: MakeRun, outputs: Path
) -> None:
    logged: dict[int, dict[str, Any]] = {10 * k: {"valid/tilt": value} for k, value in enumerate([0.5, 0.3, 0.2], 1)}
    logged[30]["test/tilt"] = 0.4
    quantities = [TILT, Quantity("test/tilt", "test tilt", "rad", "lower", decimals=3)]
    make_run(
        logged=logged, quantities=quantities, references=[Reference("test/tilt", 0.3, "someone", better="lower")]
    )
    table = tables.reached_table(measured(outputs, "test/tilt"))
    assert column(table, "quantity") == [("tilt (rad)",)]
    assert column(table, "steps") == [("20",)]


def test_seeds_that_diverged_are_told_beside_those_that_reached_it(make_run: MakeRun, outputs: Path) -> None:
    references = [Reference("valid/tilt", 0.3, "someone", better="lower")]
    logged: dict[int, dict[str, Any]] = {10 * k: {"valid/tilt": 0.1} for k in range(1, 4)}
    for seed, status in enumerate(("done", "diverged", "diverged"), 1):
        make_run(seed=seed, logged=logged, references=references, status=status)
    table = tables.reached_table(measured(outputs, "valid/tilt"))
    assert "| 1 of 1<br>2 of 3 diverged |" in markdown(table)


def test_runs_that_begin_with_others_are_averaged_over_seeds(make_run: MakeRun, outputs: Path) -> None:
    """Each seed with the weights of a parent of its own. Where the parent is another experiment's, it is told."""
    for seed in (1, 2):
        for kind, of in (("extend", "a"), ("init_from", "a"), ("init_from", "b")):
            path = f"outputs/box-kite/seed={seed}-{of}{kind}{seed}"
            make_run(seed=seed, changed={kind: path}, parent={"kind": kind, "group": of})
    groups = [one for one, _ in judge(outputs)[0]]
    assert sorted((one.title, len(one.done)) for one in groups) == [
        ("red-kite", 2),
        ("red-kite (init_from=a)", 2),
        ("red-kite (init_from=b)", 2),
    ]


def test_a_published_best_value_is_held_against_the_best(make_run: MakeRun, outputs: Path) -> None:
    reference = Reference("valid/tilt", 0.26, "someone", at="best", better="lower")
    make_run(logged={10: {"valid/tilt": 0.26}, 20: {"valid/tilt": 0.48}}, references=[reference])
    (row,) = measured(outputs, "valid/tilt")
    (comparison,) = row.comparisons
    assert (comparison.measured, comparison.verdict) == (0.26, "reached")
    table = my_runs(outputs)
    assert (column(table, "value"), column(table, "compared")) == ([("0.260",)], [("0.260 (best)",)])


def test_a_shortened_run_has_not_missed(make_run: MakeRun, outputs: Path) -> None:
    reference = Reference("test/height", 200.0, "someone")
    make_run(references=[reference], changed={"trainer.max_steps": 10})
    make_run("box-kite", references=[reference])
    assert column(my_runs(outputs), "verdict") == [("✗ missed (−99.00)",), ("~ shortened (−99.00)",)]


def test_a_value_of_another_protocol_is_not_compared(make_run: MakeRun, outputs: Path) -> None:
    same = Reference("test/height", 100.0, "one", protocol={"dataset": "arcs"})
    other = Reference("test/height", 200.0, "two", protocol={"dataset": "sine"})
    make_run(references=[other, same])
    (row,) = measured(outputs)
    assert [c.reference.source for c in row.comparisons] == ["one"]


@pytest.mark.parametrize(("value", "told"), [(90.0, "Half of the steps."), (110.0, "")])
def test_a_missed_value_says_why(make_run: MakeRun, outputs: Path, value: float, told: str) -> None:
    reference = Reference("test/height", 100.0, "someone", note="Half of the steps.")
    make_run(logged={20: {"test/height": value}}, references=[reference])
    (table,) = tables.quantity_tables(measured(outputs))
    assert table.rows[0][table.columns.index("verdict")].small == told


def test_a_truth_that_is_of_a_seed_has_a_mean(make_run: MakeRun, outputs: Path) -> None:
    for seed, truth in ((1, 100.0), (2, 104.0)):
        make_run(seed=seed, logged={20: {"test/height": Measurement(101.0, truth=truth)}})
    (row,) = measured(outputs)
    assert row.truth == 102.0
    make_run(seed=3)
    assert measured(outputs)[0].truth is None  # unknown for one of them


def test_what_is_between_seeds_and_what_is_within_a_run_stand_apart(make_run: MakeRun, outputs: Path) -> None:
    for seed in (1, 2, 3):
        found = Measurement(95.0 + seed, 0.26, 100.0, monte_carlo_error=0.02)
        make_run(seed=seed, logged={20: {"test/height": found}})
        make_run("box-kite", seed, {20: {"test/height": Measurement(90.0, 0.1)}})
        rows = [row for row in measured(outputs) if row.group.experiment == "red-kite"]
        (table,) = tables.quantity_tables([*rows, *rows])
        expected = ("96.00", "96.50 (96.00 … 97.00)", "97.00 [94.52, 99.48]")[seed - 1]
        assert column(table, "final")[0] == (expected,)
        assert (column(table, "standard")[0], column(table, "Monte")[0]) == (("0.26",), ("0.02",))
        assert ("confidence interval" in table.note) == (seed == 3)
        assert ("their range" in table.note) == (seed == 2)
        assert "standard error: of one run" in table.note and "Monte Carlo error" in table.note
        whole = my_runs(outputs)
        small = [cells[whole.columns.index("value")].small for cells in whole.rows]
        assert small[1] == "mean height (m) ↑; standard error over the split 0.26"
        assert records(rows)[0]["monte_carlo_error"] == pytest.approx(0.02)
    rows = [row for row in measured(outputs) if row.group.experiment == "box-kite"]
    assert "Monte Carlo error" not in tables.quantity_tables([*rows, *rows])[0].columns


# Protocols


def test_other_protocols_are_other_rows_and_tables(make_run: MakeRun, outputs: Path) -> None:
    """The same configuration, judged in another way: two rows, in two tables, and it is said."""
    for seed, wind in enumerate(("west", "west", "east"), 1):
        make_run(seed=seed, logged={20: {"test/height": Measurement(10.0 * seed, protocol={"wind": wind})}})
    rows = measured(outputs)
    assert [(row.protocol["wind"], row.final.mean) for row in rows] == [("west", 15.0), ("east", 30.0)]
    (problem,) = judge(outputs)[1]
    assert "test/height was judged in 2 ways, never averaged" in problem.reason
    assert "arcs; split 30/20/10; wind west | arcs; split 30/20/10; wind east" in problem.reason
    assert len(tables.quantity_tables([*rows, *rows])) == 2


def test_no_table_mixes_protocols_or_quantities(make_run: MakeRun, outputs: Path) -> None:
    for k, (data, wind) in enumerate(itertools.product(("arcs", "sine"), ("west", "east"))):
        for name in ("red-kite", "box-kite"):
            logged = {
                10: {"valid/tilt": 0.5},
                20: {"valid/tilt": 0.4, "test/height": Measurement(95.0, protocol={"wind": wind})},
            }
            make_run(name, 1, logged, protocol={"dataset": data}, changed={"model.layers": k + 1})
    rows = [row for _, found in judge(outputs)[0] for row in found]
    found = tables.quantity_tables(rows)
    notes = {(table.title, table.note.split(" · ")[0]): len(table.rows) for table in found}
    assert notes == {
        ("mean height (m)", "arcs; wind west"): 2,
        ("mean height (m)", "arcs; wind east"): 2,
        ("mean height (m)", "sine; wind west"): 2,
        ("mean height (m)", "sine; wind east"): 2,
        ("tilt (rad)", "arcs"): 4,  # it does not depend on the wind
        ("tilt (rad)", "sine"): 4,
    }
    drawn = list(pictures.compared_curves(rows, set()))
    assert len({picture.name for picture in drawn}) == len(drawn) == 2


def test_curves_of_several_protocols_are_several_pictures(make_run: MakeRun, outputs: Path) -> None:
    for layers, (name, wind) in enumerate(itertools.product(("red-kite", "box-kite"), ("west", "east")), 1):
        logged = {step: {"valid/tilt": Measurement(1 / step, protocol={"wind": wind})} for step in (10, 20)}
        make_run(name, 1, logged, changed={"model.layers": layers})
    drawn = list(pictures.compared_curves(measured(outputs, "valid/tilt"), set()))
    assert len({picture.name for picture in drawn}) == len(drawn) == 2


def test_curves_are_told_apart_by_what_is_not_common_to_all(
    make_run: MakeRun, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many words they have in common."""
    common = {f"model.{part}_channels": 16 for part in ("encoder", "decoder", "tail")} | {"model.width": 5}
    for tilt in (2, 3):
        changed = {"optimizer.lr": tilt / 10, **common, "loss.tilt": tilt, "loss.width": tilt}
        make_run("kite", 1, {10: {"valid/tilt": 0.5}, 20: {"valid/tilt": 0.1}}, changed=changed)
    drawn: list[list[str]] = []

    def curves(bands: list[Band], *_: object) -> Figure:
        drawn.append([band.label for band in bands])
        return new_figure(1, 1)

    monkeypatch.setattr(pictures, "overlaid_curves", curves)
    assert len(list(pictures.compared_curves(measured(outputs, "valid/tilt"), set()))) == 1
    assert sorted(drawn[0]) == ["lr=0.2, tilt=2, loss.width=2", "lr=0.3, tilt=3, loss.width=3"]


def test_a_protocol_is_told_in_a_line() -> None:
    assert protocol_text({"wind": "west", "dataset": "arcs", "line_length": 7}) == "arcs; wind west; line length 7"
    assert protocol_text({}) == ""


# Tables


@pytest.mark.parametrize(
    ("quantity", "best"), [(HEIGHT, "kite-3"), (dataclasses.replace(HEIGHT, better="lower"), "kite-1")]
)
def test_the_best_of_a_table_is_bold(quantity: Quantity, best: str, make_run: MakeRun, outputs: Path) -> None:
    for k in (1, 2, 3):
        make_run(f"kite-{k}", 1, {20: {"test/height": 10.0 * k}}, quantities=[quantity])
    (table,) = tables.quantity_tables(measured(outputs))
    assert [row[0].lines[0] for row in table.rows if any(cell.bold for cell in row)] == [best]


def test_of_what_is_neither_good_nor_bad_nothing_is_bold(make_run: MakeRun, outputs: Path) -> None:
    for name in ("red-kite", "box-kite"):
        make_run(name, 1, {20: {"test/line": float(len(name))}})
    (table,) = tables.quantity_tables(measured(outputs, "test/line"))
    assert not any(cell.bold for row in table.rows for cell in row)


def test_a_table_has_truth_published_values_and_verdicts(make_run: MakeRun, outputs: Path) -> None:
    logged = {20: {"test/height": Measurement(101.0, 0.5, 104.0)}}
    make_run(logged=logged, references=[Reference("test/height", 100.0, "Wright 1903, Table 2")])
    (table,) = tables.quantity_tables(measured(outputs))
    assert table.title == "mean height (m)"
    titles = ("experiment", "seeds", "final ↑", "standard error", "of a perfect kite", "published", "verdict")
    assert table.columns == titles
    assert [cell.lines[0] for cell in table.rows[0]] == [
        "red-kite",
        "1",
        "101.00",
        "0.50",
        "104.00",
        "100.00",
        "✓ reached (+1.00)",
    ]
    assert [cell.small for cell in table.rows[0]] == ["", "", "", "", "off by −3.00", "Wright 1903, Table 2", ""]


def test_places_of_a_sweep_are_in_their_order(make_run: MakeRun, outputs: Path) -> None:
    for layers in (10, 1, 2):
        make_run(changed={"model.layers": layers})
    (table,) = tables.quantity_tables(measured(outputs))
    assert [row[0].small for row in table.rows] == ["layers=1", "layers=2", "layers=10"]


def test_speeds_of_different_machines_have_no_mean(make_run: MakeRun, outputs: Path) -> None:
    for seed, device in enumerate(("cpu", "cpu", "H200"), 1):
        speed = {"cpu": 10.0, "H200": 1000.0}[device] * (1 + seed % 2)
        make_run(seed=seed, ended={"device": device, "steps_per_second": speed})
    cost = tables.cost_table([one for one, _ in judge(outputs)[0]])
    assert column(cost, "device") == [("cpu",), ("H200",)]
    assert column(cost, "steps/s") == [("15",), ("2,000",)]


def test_families_with_a_likelihood_stand_beside_each_other(make_run: MakeRun, outputs: Path) -> None:
    """One column for each kind of value, a table for each data set, and no family without a likelihood."""
    exact, bound = Family("Kites", likelihood="exact"), Family("Balloons", likelihood="bound: from below")
    ceiling = Quantity("test/ceiling", "ceiling", "m", "higher", 0)
    make_run("kite", 1, {20: {"test/height": Measurement(90.0, protocol={"wind": "none"})}}, family=exact)
    make_run("balloon", 1, {20: {"test/ceiling": 80.0}}, family=bound, quantities=[ceiling])
    make_run("balloon", 1, {20: {"test/ceiling": 7.0}}, family=bound, quantities=[ceiling], protocol={"dataset": "x"},
             changed={"model.layers": 2})  # fmt: skip
    make_run("plane", 1, {20: {"test/height": 70.0}}, family=Family("Planes"))
    (table,) = tables.across_tables(judge(outputs)[0])
    assert table.title == "arcs; split 30/20/10"
    assert column(table, "family") == [("Balloons",), ("Kites",)]
    assert column(table, "ceiling") == [("80",), ("",)]
    assert column(table, "mean") == [("",), ("90.00",)]


def test_what_is_conditional_on_the_class_shares_neither_table_nor_verdict(make_run: MakeRun, outputs: Path) -> None:
    """log p(x|y) lies above log p(x) of the same data, without being better."""
    reference = [Reference("test/height", 100.0, "someone")]
    common = {"dataset": "arcs", "split": "30/20/10"}
    family, other = Family("Kites", likelihood="exact"), Family("Balloons", likelihood="exact")
    make_run("kite-1", references=reference, family=family)
    make_run("kite-2", references=reference, family=other)
    for name in ("kite-3", "kite-4"):
        told = {"kite-3": family, "kite-4": other}[name]
        make_run(name, references=reference, family=told, protocol={**common, "conditional": "class"})
    judged = judge(outputs)[0]
    rows = [row for _, found in judged for row in found if row.quantity.name == "test/height"]
    assert {row.group.experiment: [c.verdict for c in row.comparisons] for row in rows} == {
        "kite-1": ["reached"], "kite-2": ["reached"], "kite-3": [], "kite-4": []
    }  # fmt: skip
    assert [column(table, "experiment") for table in tables.quantity_tables(rows)] == [
        [("kite-1",), ("kite-2",)], [("kite-3",), ("kite-4",)]
    ]  # fmt: skip
    titles = {table.title: column(table, "experiment") for table in tables.across_tables(judged)}
    assert titles == {
        "arcs; split 30/20/10": [("kite-1",), ("kite-2",)],
        "arcs; split 30/20/10; conditional class": [("kite-3",), ("kite-4",)],
    }


def test_a_group_is_known_by_what_was_published_or_is_true(make_run: MakeRun, outputs: Path) -> None:
    logged = {20: {"test/height": 1.0, "valid/tilt": Measurement(2.0, truth=2.5), "test/line": 3.0}}
    make_run("kite-1", 1, {20: {"test/height": 1.0}})
    make_run("kite-2", 1, logged)
    make_run("kite-3", 1, logged, references=[Reference("test/line", 3.0, "someone")])
    table = my_runs(outputs)
    assert column(table, "value") == [("1.00",), ("2.000",), ("3.0",)]
    assert column(table, "compared") == [("",), ("2.500",), ("3.0",)]
    assert [row[2].small for row in table.rows] == ["mean height (m) ↑", "tilt (rad) ↓", "length of the line (m)"]
    assert [row[0].link for row in table.rows] == ["kite-1", "kite-2", "kite-3"]


def test_published_values_are_drawn_where_it_is_clear_whose_they_are(make_run: MakeRun, outputs: Path) -> None:
    for name in ("kite-1", "kite-2"):
        make_run(name, references=[Reference("test/height", 100.0, "someone")])
    first, second = measured(outputs)
    assert pictures._published([first]) == [("someone", 100.0)]
    assert pictures._published([first, second]) == []
    other = dataclasses.replace(second, comparisons=())
    assert pictures._published([first, other]) == [("kite-1, someone", 100.0)]


def test_only_a_run_that_has_not_ended_has_its_curves_drawn_here(make_run: MakeRun, outputs: Path) -> None:
    logged = {step: {"valid/tilt": 1 / step} for step in (10, 20)}
    make_run("kite-1", 1, logged, status="running")
    make_run("kite-2", 1, logged)
    drawn = [[picture.name for picture in pictures.own_curves(one, one.title, set())] for one, _ in judge(outputs)[0]]
    assert drawn == [["kite-1-curves.png"], []]


# Published values


def test_all_published_values_are_those_that_hydra_composes() -> None:
    names = sorted(path.stem for path in (compose.CONFIG_DIRECTORY / "experiment").glob("*.yaml"))
    composed = {name: compose.experiment(name) for name in names}
    assert [name for name, config in composed.items() if config is None] == []
    expected = [(name, value) for name in names for value in composed[name].reference]
    assert sorted(tables.missing(()), key=lambda found: found[0]) == expected


def test_values_that_were_compared_are_not_missing() -> None:
    everything = tables.missing(())
    experiment, told = everything[1]
    left = tables.missing({(experiment, told.metric, told.label)})
    assert left == [everything[0], *everything[2:]]
    assert len(tables.published_table(left).rows) == len(everything) - 1


def test_published_values_are_printed_as_they_were_published() -> None:
    values = (-100.99, 0.0123456, 5e-5, 1234567.0)
    table = tables.published_table([("experiment", Reference("m", value, "s")) for value in values])
    assert column(table, "published") == [("−100.99",), ("0.0123456",), ("5e−05",), ("1234567",)]


# Cells


def test_numbers() -> None:
    assert number(-101.124, 2) == "−101.12"
    assert number(1.5e-10, 7) == "1.5e−10"
    assert number(None) == ""
    assert number(0.0, 3) == "0.000"
    assert number(float("nan"), 2) == "not finite"
    assert [number(value) for value in (999.4, 999.9, 12345.6, 2e6)] == ["999", "1,000", "12,346", "2e+06"]
    assert (signed(0.5, 2), signed(-0.5, 2), signed(0.0, 2)) == ("+0.50", "−0.50", "0.00")
    assert [duration(seconds) for seconds in (None, 14.2, 192, 9360)] == [
        "",
        "14.2\u00a0s",
        "3.2\u00a0min",
        "2.6\u00a0h",
    ]


def test_markdown_escapes_what_would_be_markup() -> None:
    table = Table("", "", ("x_y", "n"), ((Cell(("<b>|*",)), text("`a`\nb", "c", small="~d~")),))
    assert markdown(table).splitlines() == [r"| x\_y | n |", "|---|---|", r"| \<b\>\|\* | \`a\` b<br>c<br>\~d\~ |"]


def test_columns_without_a_value_are_left_out() -> None:
    table = Table("", "", ("a", "b", "c"), ((text("1"), text(), text(small="x")), (text("2"), text(), text())))
    assert table.without_empty_columns().columns == ("a", "c")


# Whose names are known


def test_the_report_knows_no_metric_and_no_family() -> None:
    from genbench.registry import known, lookup

    families = {lookup("task", name).family for name in known("task")}  # type: ignore[attr-defined]
    named: list[Any] = [getattr(lookup("task", name), "quantities", ()) for name in known("task")]
    metrics = {quantity.name for quantities in named if isinstance(quantities, Sequence) for quantity in quantities}
    assert len(metrics) > 10
    sources = [*Path(tables.__file__).parent.glob("*.*"), Path(tables.__file__).parents[1] / "commands" / "report.py"]
    words = {*metrics, *(family.title for family in families), "train/", "valid/", "test/", "eval/", "theory/"}
    found: Mapping[str, list[str]] = {
        path.name: [word for word in words if word in path.read_text(encoding="utf-8")] for path in sources
    }
    assert {name: words for name, words in found.items() if words} == {}
    assert KITES not in families
