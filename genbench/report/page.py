"""A report as one HTML page that needs neither network nor JavaScript, and as Markdown for a repository."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from genbench.report.cells import Table, markdown
from genbench.report.pictures import Picture, thumbnail

__all__ = ["PICTURES", "FamilySection", "Report", "RunSection", "html", "to_markdown"]

HERE = Path(__file__).parent
LONG = 20  # rows from which on a table is folded
PICTURES = "results"
"""Folder of the pictures beside the page."""


@dataclass(frozen=True, kw_only=True)
class RunSection:
    """Everything about the runs of one group."""

    key: str
    title: str
    family: str
    cover: Picture | None
    pictures: list[Picture]
    curves: list[Picture]
    measured: list[Table]
    """One, or none if nothing was."""

    commands: Table
    settings: Table


@dataclass(frozen=True, kw_only=True)
class FamilySection:
    """The groups of one family, beside each other if there are several."""

    key: str
    title: str
    tables: list[Table]
    curves: list[Picture]
    sweeps: list[Picture]
    runs: list[RunSection]
    cost: Table

    @property
    def compares(self) -> bool:
        """There is something that the sections of its runs do not show."""
        return bool(self.tables or self.curves or self.sweeps or len(self.runs) > 1)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page and the Markdown file are written from."""

    title: str
    lead: str
    my_runs: Table
    runs: list[RunSection]
    """One for each row of `my_runs`."""

    families: list[FamilySection]
    across: list[Table]
    published: Table
    problems: Table

    @property
    def compared(self) -> list[Picture]:
        """Pictures of several groups, and the best one of each."""
        families = [picture for family in self.families for picture in (*family.curves, *family.sweeps)]
        return [*families, *(run.cover for run in self.runs if run.cover)]

    @property
    def pictures(self) -> dict[str, Picture]:
        """All by name."""
        own = [picture for run in self.runs for picture in (*run.pictures, *run.curves)]
        return {picture.name: picture for picture in (*self.compared, *own)}


def html(report: Report) -> str:
    """The page; its pictures lie in `results/` beside it, but for the small ones of the first table."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    thumbnails = {run.key: _embedded(thumbnail(run.cover)) for run in report.runs if run.cover}
    return environment.get_template("page.html").render(
        report=report,
        thumbnails=thumbnails,
        folder=PICTURES,
        long=LONG,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),  # our own: its quotes are no text
    )


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def to_markdown(report: Report) -> str:
    """The same tables, the pictures that compare and each group's best; they lie in `results/` beside the file.

    A family of one group has what that has measured.
    """
    parts = [f"# {report.title}", report.lead, markdown(report.my_runs)]
    for family in report.families:
        alone = () if family.compares else (table for run in family.runs for table in run.measured)
        parts += [f"## {family.title}", *map(markdown, (*family.tables, *alone))]
        covers = [run.cover for run in family.runs if run.cover]
        for pictures in (family.curves, family.sweeps, covers):
            parts += ["\n".join(map(_image, pictures))] if pictures else []
        parts += [markdown(family.cost)] if family.cost.rows else []
    parts += ["## Across families", *map(markdown, report.across)] if report.across else []
    missing = "## Published values that nothing was run for"
    for title, table in ((missing, report.published), ("## Left out", report.problems)):
        parts += [title, markdown(table)] if table.rows else []
    return "\n\n".join(parts) + "\n"


def _image(picture: Picture) -> str:
    caption = picture.caption.replace("[", "(").replace("]", ")")
    return f"![{caption}]({PICTURES}/{picture.name})"
