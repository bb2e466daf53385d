"""Tables as data: pages and Markdown are written from the same ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from genbench.numerals import number, signed, verdict_line
from genbench.report.groups import Result
from genbench.report.statistics import Estimate

__all__ = [
    "ERRORS",
    "Cell",
    "Table",
    "error_cells",
    "error_text",
    "estimate_text",
    "how_to_read",
    "markdown",
    "numeric",
    "text",
    "truth_cell",
    "verdict_cell",
]


@dataclass(frozen=True)
class Cell:
    """One cell: a line of text, or several that belong to several published values."""

    lines: tuple[str, ...] = ("",)
    bold: bool = False
    kind: str = ""
    """number, code, or the verdict, for colours beside the words."""

    small: str = ""
    """A further line in small print."""

    link: str = ""
    """Anchor of a section on the page."""

    @property
    def empty(self) -> bool:
        return not any(self.lines) and not self.small


@dataclass(frozen=True)
class Table:
    """A caption, column titles and rows of as many cells."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...] = field(repr=False)

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(any(row[k].kind == "number" for row in self.rows) for k in range(len(self.columns)))

    def without_empty_columns(self) -> Table:
        kept = [k for k in range(len(self.columns)) if not all(row[k].empty for row in self.rows)]
        columns = tuple(self.columns[k] for k in kept)
        return Table(self.title, self.note, columns, tuple(tuple(row[k] for k in kept) for row in self.rows))


def text(*lines: str, small: str = "", link: str = "") -> Cell:
    return Cell(lines or ("",), small=small, link=link)


def numeric(*lines: str, bold: bool = False, small: str = "") -> Cell:
    return Cell(lines or ("",), bold, "number", small)


def estimate_text(value: Estimate | None, decimals: int | None) -> str:
    """A mean over seeds with its interval or range."""
    if value is None:
        return ""
    mean = number(value.mean, decimals)
    if value.low is None:
        return mean
    low, high = number(value.low, decimals), number(value.high, decimals)
    return f"{mean} ({low} … {high})" if value.is_range else f"{mean} [{low}, {high}]"


ERRORS = ("standard error", "Monte Carlo error")
"""Titles of the columns of `error_cells`: what is between seeds stands in brackets beside their mean."""


def error_cells(row: Result) -> tuple[Cell, Cell]:
    errors = (row.standard_error, row.monte_carlo_error)
    one, other = (numeric(number(error, row.quantity.decimals)) for error in errors)
    return one, other


def error_text(row: Result) -> str:
    """For small print below a value."""
    if row.standard_error is None:
        return ""
    return f"standard error over the split {number(row.standard_error, row.quantity.decimals)}"


def truth_cell(row: Result) -> Cell:
    """The true value, and how far the measured one lies from it."""
    digits = row.quantity.decimals
    offset = None if row.truth is None else row.final.mean - row.truth
    return numeric(number(row.truth, digits), small=f"off by {signed(offset, digits)}" if offset else "")


def verdict_cell(row: Result) -> Cell:
    """One line for each published value; what must be known of the verdict in small print."""
    kinds = [c.verdict for c in row.comparisons]
    lines = [verdict_line(c.verdict, c.difference, row.quantity.decimals) for c in row.comparisons]
    if row.impossible and "impossible" not in kinds:
        kinds.append("impossible")
        lines.append(verdict_line("impossible"))
    notes = [c.reference.note for c in row.comparisons if c.verdict == "missed"]
    notes += [row.group.diverged] if lines else []
    small = " · ".join(dict.fromkeys(filter(None, notes)))
    return Cell(tuple(lines) or ("",), kind=kinds[0] if len(set(kinds)) == 1 else "", small=small)


def how_to_read(rows: Iterable[Result]) -> str:
    """How the numbers of these rows are to be read."""
    rows = list(rows)
    few = [row.final.n for row in rows if row.final.is_range]
    notes = {
        "mean over seeds [95 % confidence interval]": len(few) < len(rows),
        "two seeds (their range)": 2 in few,
        "standard error: of one run, over the images or points of the split": any(row.standard_error for row in rows),
        "Monte Carlo error: its part that other noise would change": any(row.monte_carlo_error for row in rows),
        "best: chosen by this very value from all evaluations of a run": any(row.best for row in rows),
    }
    return " · ".join(note for note, holds in notes.items() if holds)


def markdown(table: Table) -> str:
    """A pipe table below its title and note."""
    title = f"**{table.title}**" if table.title else ""
    lines = [" · ".join(part for part in (title, _escaped(table.note)) if part), ""] if title or table.note else []
    lines.append("| " + " | ".join(_escaped(column) for column in table.columns) + " |")
    lines.append("|" + "|".join("---:" if right else "---" for right in table.numeric) + "|")
    for row in table.rows:
        lines.append("| " + " | ".join(_markdown_cell(cell) for cell in row) + " |")
    return "\n".join(lines)


def _markdown_cell(cell: Cell) -> str:
    text = "<br>".join(_escaped(line) for line in cell.lines)
    text = f"**{text}**" if cell.bold and text else text
    return f"{text}<br>{_escaped(cell.small)}" if cell.small else text


def _escaped(text: str) -> str:
    text = " ".join(text.split("\n"))
    for character in "\\|*_<>[]~`":
        text = text.replace(character, f"\\{character}")
    return text
