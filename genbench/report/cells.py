"""Tables as data: pages and Markdown are written from the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from genbench.report.groups import Result
from genbench.report.statistics import Estimate

__all__ = [
    "Cell",
    "Table",
    "duration",
    "estimate_text",
    "how_to_read",
    "markdown",
    "number",
    "numeric",
    "signed",
    "text",
]

MINUS = "−"


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


def number(value: float | None, decimals: int | None = None, digits: int = 3) -> str:
    """A number as tables print it: a true minus, and a fixed number of decimals or of significant digits."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return "not finite"
    if decimals is None and 10**digits - 0.5 <= abs(value) < 1e6:
        text = f"{value:,.0f}"
    elif decimals is None or (value and abs(value) < 0.5 * 10**-decimals) or abs(value) >= 1e6:
        text = f"{value:.{digits}g}"
    else:
        text = f"{value:.{decimals}f}"
    return text.replace("-", MINUS)


def signed(value: float, decimals: int | None) -> str:
    return f"+{number(value, decimals)}" if value > 0 else number(value, decimals)


def estimate_text(value: Estimate | None, decimals: int | None, error: float | None = None) -> str:
    """A mean over seeds with its interval or range; of one seed with the standard error over images or points."""
    if value is None:
        return ""
    mean = number(value.mean, decimals)
    if value.low is None:
        return mean if error is None else f"{mean} ± {number(error, decimals)}"
    low, high = number(value.low, decimals), number(value.high, decimals)
    return f"{mean} ({low} … {high})" if value.is_range else f"{mean} [{low}, {high}]"


def how_to_read(rows: Iterable[Result]) -> str:
    """How the numbers of these rows are to be read."""
    kinds = {(row.final.n == 1, row.final.is_range, row.standard_error is not None) for row in rows}
    notes = ["mean over seeds [95 % confidence interval]"] if any(not few for _, few, _ in kinds) else []
    notes += ["two seeds (their range)"] if any(few and not one for one, few, _ in kinds) else []
    notes += ["± standard error over the split"] if any(one and error for one, _, error in kinds) else []
    return " · ".join(notes)


def duration(seconds: float | None) -> str:
    """14 s, 3.2 min, 2.6 h"""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.3g}\u00a0s"
    return f"{seconds / 60:.3g}\u00a0min" if seconds < 6000 else f"{seconds / 3600:.3g}\u00a0h"


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
