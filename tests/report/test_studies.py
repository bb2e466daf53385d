"""Tables of what a tuner tried."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kites import HEIGHT, TILT

from genbench.engine.measurement import Quantity
from genbench.report.cells import Table, markdown
from genbench.report.reading import Problem, find, readable
from genbench.report.studies import study_tables

Found = tuple[dict[str, list[Table]], list[Problem]]
TRIALS = [
    {"trial": 0, "value": 0.5, "status": "done", "values": {"lr": 0.001, "model": "a_b"}, "run": "lr=0.001-1"},
    {"trial": 1, "value": None, "status": "diverged", "values": {"lr": 0.01, "model": "c"}, "run": "lr=0.01-2"},
    {"trial": 2, "value": 0.25, "status": "done", "values": {"lr": 0.002, "model": "c"}, "run": "lr=0.002-3"},
]


@pytest.fixture
def tables(
    make_run: Callable[..., Path], outputs: Path
) -> Callable[[Any], tuple[dict[str, list[Table]], list[Problem]]]:
    make_run("red-kite", 1, {20: {"test/height": 3.0}})

    def written(study: Any) -> tuple[dict[str, list[Table]], list[Problem]]:
        (outputs / "sweep-study-red-kite-12345678.json").write_text(json.dumps(study))
        problems: list[Problem] = []
        return study_tables(list(readable(find([outputs], problems), problems)), problems), problems

    return written


@pytest.mark.parametrize(("quantity", "order"), [(TILT, ["2", "0", "1"]), (HEIGHT, ["0", "2", "1"])])
def test_the_best_trial_is_first(tables: Any, quantity: Quantity, order: list[str]) -> None:
    assert {TILT.better, HEIGHT.better} == {"lower", "higher"}
    found, problems = tables({"family": "Kites", "objective": dataclasses.asdict(quantity), "trials": TRIALS})
    (table,) = found["Kites"]
    assert not problems
    assert [row[0].lines[0] for row in table.rows] == order
    assert table.columns == ("trial", f"{quantity.title} {quantity.arrow}", "lr", "model", "run")
    assert [row[1].bold for row in table.rows] == [True, False, False]
    assert [cell.lines[0] for cell in table.rows[-1]] == ["1", "diverged", "0.01", "c", "lr=0.01-2"]
    assert "a\\_b" in markdown(table)


@pytest.mark.parametrize("study", [[], {"family": "Kites"}, {"family": "Kites", "objective": {}, "trials": [1]}])
def test_a_damaged_study_is_named(tables: Any, study: Any) -> None:
    found, problems = tables(study)
    assert found == {}
    assert [problem.path.name for problem in problems] == ["sweep-study-red-kite-12345678.json"]
