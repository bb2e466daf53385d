"""The tables of a group's own section: what it measured, how to repeat it, and its settings."""

from __future__ import annotations

from collections.abc import Sequence

from genbench.numerals import number
from genbench.report.cells import (
    ERRORS,
    Cell,
    Table,
    error_cells,
    estimate_text,
    how_to_read,
    numeric,
    text,
    verdict_cell,
)
from genbench.report.groups import Group, Result, protocol_text
from genbench.report.reading import Run

__all__ = ["commands_table", "settings_table", "values_table"]


def values_table(results: Sequence[Result]) -> Table:
    """Everything that a group has measured: at least one quantity."""
    columns = ("quantity", "final", *ERRORS, "best", "truth", "verdict", "protocol")
    rows = tuple(
        (
            text(f"{row.quantity.title} {row.quantity.arrow}".strip()),
            numeric(estimate_text(row.final, row.quantity.decimals)),
            *error_cells(row),
            numeric(estimate_text(row.best, row.quantity.decimals)),
            numeric(number(row.truth, row.quantity.decimals)),
            verdict_cell(row),
            Cell((protocol_text(row.protocol),), kind="wide"),
        )
        for row in results
    )
    note = " · ".join(filter(None, (results[0].group.diverged, how_to_read(results))))
    return Table("Measured", note, columns, rows).without_empty_columns()


def commands_table(one: Group) -> Table:
    """What repeats each run, how it ended and what it ran on."""
    columns = ("seed", "status", "command", "ran on", "note")
    rows = []
    for run in sorted(one.runs, key=lambda run: run.seed):
        summary = run.summary
        versions = ", ".join(f"{name} {version}" for name, version in (summary.get("versions") or {}).items())
        where = f"commit {_commit(summary.get('git_commit'))}, {versions}" if versions else ""
        note = str(summary.get("note") or (run.last_line if run.state != "done" else ""))
        finished = str(summary.get("finished") or run.status.get("time") or "")
        rows.append(
            (
                numeric(str(run.seed)),
                text(run.state, small=finished),
                Cell((str(summary.get("command") or ""),), kind="code"),
                Cell((str(summary.get("device") or ""),), kind="wide", small=where),
                Cell(tuple(note.splitlines()), kind="wide"),
            )
        )
    return Table("Commands", "", columns, tuple(rows)).without_empty_columns()


def _commit(commit: str | None) -> str:
    if commit is None:
        return "unknown"
    return f"{commit[:12]} with uncommitted changes" if commit.endswith("+") else commit[:12]


def settings_table(run: Run) -> Table:
    """All settings that decide what a run computes."""
    changed = run.summary["changes"]
    rows = tuple(
        (
            Cell((key,), kind="code", bold=key in changed),
            Cell(("null" if value is None else str(value),), kind="wide", bold=key in changed),
        )
        for key, value in run.summary["settings"].items()
    )
    return Table("Settings", "changed ones bold", ("key", "value"), rows)
