"""What a command says of its one run at the end: measured vs. published, the best picture, and what to do next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from genbench.engine.measurement import Measurement, Quantity
from genbench.engine.rundir import FINISHED, RunDirectory
from genbench.numerals import number, verdict_line
from genbench.outcome import Outcome
from genbench.terminal import console

__all__ = ["show"]

Row = tuple[str, str, str, str, str]
COLUMNS = ("", "measured", "published", "source", "verdict")
NUMERIC = ("measured", "published")

UNCOMPARED = 3
"""Quantities without a published or exact value that the table has room for."""


def show(outcome: Outcome, words: Sequence[str]) -> None:
    """Print it for a run that was trained to its end; nothing for another one, or an ensemble. `words` are its
    overrides."""
    run_dir = RunDirectory(outcome.directory)
    if outcome.status not in FINISHED or run_dir.status not in FINISHED:
        return
    summary = run_dir.read_summary()
    out = console()
    if rows := list(_rows(summary)):
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        filled = [(title, *cells) for title, *cells in zip(COLUMNS, *rows, strict=True) if any(cells)]
        for title, *_ in filled:
            numeric = title in NUMERIC
            shown = f"{title} ± s.e." if title == "measured" and any("±" in row[1] for row in rows) else title
            table.add_column(shown, justify="right" if numeric else "left", no_wrap=numeric)
        for row in list(zip(*filled, strict=True))[1:]:
            table.add_row(*map(Text, row))
        out.print()
        out.print(table)
    notes = [row.get("note") for row in summary["reference"] if row["verdict"] == "missed"]
    for note in dict.fromkeys(filter(None, notes)):
        out.print(f"\n{note}", markup=False, highlight=False)
    out.print()
    cover = run_dir.path / str(summary["cover"])
    picture = [("picture", str(cover))] if cover.is_file() else []
    for title, what in (*picture, *_commands(run_dir, summary, words)):
        out.print(f"{title:<13}{what}", markup=False, soft_wrap=True)


def _rows(summary: Mapping[str, Any]) -> Iterator[Row]:
    """First what was published, then what is known exactly, then the first quantities of the others."""
    quantities = {row["name"]: Quantity(**row) for row in summary["quantities"]}
    found = {name: Measurement.from_summary(entry) for name, entry in summary["metrics"].items()}
    compared = set()
    for row in summary["reference"]:
        quantity, at = quantities.get(row["metric"], Quantity(row["metric"], row["metric"])), row["at"]
        measured = Measurement.from_summary(summary["metrics"].get(row["metric"], {}), at)
        difference = None if math.isnan(measured.value) else measured.value - row["value"]
        compared.add((quantity.name, at))
        yield (
            quantity.title + (", best" if at == "best" else ""),
            _measured(measured, quantity, at),
            number(row["value"], quantity.decimals),
            row["source"],
            verdict_line(row["verdict"], difference, quantity.decimals),
        )
    others = [(quantities[name], found[name]) for name in quantities if name in found]
    others = [(quantity, measured) for quantity, measured in others if (quantity.name, "final") not in compared]
    for quantity, measured in others:
        if measured.truth is not None:
            truth = number(measured.truth, quantity.decimals)
            yield quantity.title, _measured(measured, quantity), truth, quantity.truth_label, ""
    uncompared = [pair for pair in others if pair[1].truth is None]
    for quantity, measured in uncompared[:UNCOMPARED]:
        yield quantity.title, _measured(measured, quantity), "", "", ""


def _measured(measured: Measurement, quantity: Quantity, at: str = "final") -> str:
    """The value with its standard error, which is of the final one."""
    told = number(measured.value, quantity.decimals)
    if measured.standard_error is None or at != "final":
        return told
    return f"{told} ± {number(measured.standard_error, quantity.decimals)}"


def _commands(run_dir: RunDirectory, summary: Mapping[str, Any], words: Sequence[str]) -> list[tuple[str, str]]:
    """The two most useful commands after this one, each with its title."""
    root, experiment = map(str, (run_dir.path.parent.parent, run_dir.path.parent))
    seeds = [("three seeds", ["genbench", "-m", *words, "seed=1,2,3"])]
    chosen = summary["status"] != "done" or any(word.startswith("seed=") for word in words)
    report, board = ("report", ["genbench-report", root]), ("TensorBoard", ["tensorboard", "--logdir", experiment])
    return [(title, shlex.join(command)) for title, command in [*([] if chosen else seeds), report, board][:2]]
