"""What the documentation knows of experiments: how long runs took, and what a source is.

In a wheel these pages lie inside the package, in a checkout beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from genbench import compose

__all__ = ["PAGES", "Time", "source", "times"]

RESULTS = ("docs/results.md", "docs/results/earlier.md")  # the first that has an experiment counts
SOURCES = "docs/sources.md"
PAGES = (*RESULTS, SOURCES)

BREAK = "<br>"
NO_BREAK = "\u00a0"
LINK, WITHOUT_ADDRESS = re.compile(r"\[(.*?)\]\(.*?\)"), r"\1"


@dataclass(frozen=True)
class Time:
    """How long runs of an experiment took on a device, on average, as a page says."""

    duration: str
    device: str
    page: str


def times(experiment: str) -> list[Time]:
    """What was measured of an experiment as it is, without changes; empty where nothing was."""
    found = ([time for name, time in _times(page) if name == experiment] for page in RESULTS)
    return next(filter(None, found), [])


@cache
def _times(page: str) -> list[tuple[str, Time]]:
    """From the tables of a page that the report wrote. A name with a second line has changes."""
    found, columns = [], list[str]()
    for row in _rows(page):
        if "wall time" in row:
            columns = row
        elif len(row) != len(columns) or row[0] == columns[0]:
            columns = []
        elif BREAK not in row[0] and set(row[0]) - set("-:"):
            cells = dict(zip(columns, row, strict=True))
            device = cells["device"].split(BREAK)[0].replace("cpu (", "CPU (")
            found.append((cells["experiment"], Time(cells["wall time"], device, page)))
    return found


def source(words: str) -> str:
    """What the source of a published value is; "" if it is none of the page's."""
    for row in _rows(SOURCES):
        key = row[0].strip("*")
        if row[0].startswith("**") and re.match(rf"{re.escape(key)}(,|$)", words):
            return f"{key}: {LINK.sub(WITHOUT_ADDRESS, row[1])}"
    return ""


def _rows(page: str) -> Iterator[list[str]]:
    """The rows of a page's tables, and an empty one where a table ends."""
    path = compose.CONFIG_DIRECTORY.parent / page
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(("| ", "|-")):
            yield [cell.strip() for cell in line.replace("\\_", "_").replace(NO_BREAK, " ").strip("|").split("|")]
        else:
            yield [""]
