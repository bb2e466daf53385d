"""Studies of `hydra/sweeper=optuna` as tables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from genbench.engine.measurement import Quantity
from genbench.numerals import number
from genbench.report.cells import Cell, Table, numeric, text
from genbench.report.reading import Problem, Run, homes

__all__ = ["study_tables"]

PATTERN = "sweep-study-*.json"


def study_tables(runs: Sequence[Run], problems: list[Problem]) -> dict[str, list[Table]]:
    """Of the studies that lie beside these runs or beside their experiments, by the title of the family."""
    found: dict[str, list[Table]] = {}
    for path in (path for directory in homes(runs) for path in sorted(directory.glob(PATTERN))):
        try:
            study = json.loads(path.read_text(encoding="utf-8"))
            family, table = str(study["family"]), _table(path, study)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(Problem(path, f"no study: {error!r}"))
        else:
            found.setdefault(family, []).append(table)
    return found


def _table(path: Path, study: dict[str, Any]) -> Table:
    """The best trial first; those without a value last."""
    quantity = Quantity(**study["objective"])
    keys = list(dict.fromkeys(key for trial in study["trials"] for key in trial["values"]))
    sign = -1.0 if quantity.better == "higher" else 1.0
    trials = sorted(
        study["trials"], key=lambda trial: math.inf if trial["value"] is None else sign * float(trial["value"])
    )
    columns = ("trial", f"{quantity.title} {quantity.arrow}", *keys, "run")
    rows = tuple(tuple(_cells(trial, keys, quantity, best=trial is trials[0])) for trial in trials)
    name = path.stem.removeprefix("sweep-study-")
    return Table(f"study {name}", f"{len(trials)} trials, chosen by {quantity.name}", columns, rows)


def _cells(trial: dict[str, Any], keys: Sequence[str], quantity: Quantity, best: bool) -> Iterator[Cell]:
    value = trial["value"]
    yield text(str(trial["trial"]))
    yield text(trial["status"]) if value is None else numeric(number(value, quantity.decimals), bold=best)
    for key in keys:
        setting = trial["values"].get(key)
        yield numeric(number(setting)) if isinstance(setting, float) else numeric(str(setting))
    yield text(trial["run"])
