"""A report as one HTML page that needs neither network nor JavaScript, and as Markdown for a repository."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from genbench.report.pictures import Gallery, Picture
from genbench.report.tables import Table, markdown

__all__ = ["PICTURES", "Report", "Section", "html", "to_markdown"]

HERE = Path(__file__).parent
LONG = 14  # rows from which on a table is folded
PICTURES = "results"
"""Folder of the pictures beside `results.md`."""


@dataclass(frozen=True)
class Section:
    """All about one family."""

    key: str
    title: str
    tables: list[Table]
    galleries: list[Gallery]
    cost: Table
    runs: Table


@dataclass(frozen=True)
class Report:
    """What the page and the Markdown file are written from."""

    title: str
    lead: str
    overview: Table
    families: list[Section]
    comparison: list[Table]
    unfinished: Table
    skipped: Table

    @property
    def pictures(self) -> list[Picture]:
        return [picture for section in self.families for gallery in section.galleries for picture in gallery.pictures]


def html(report: Report) -> str:
    """The page, pictures embedded."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    contents = [{"key": "overview", "title": "Overview"}]
    contents += [{"key": section.key, "title": section.title} for section in report.families]
    contents += [{"key": "families", "title": "Across families"}] if report.comparison else []
    contents += [{"key": "unfinished", "title": "Not done"}, {"key": "skipped", "title": "Skipped"}]
    families = [
        {**vars(section), "galleries": [_embedded(gallery) for gallery in section.galleries]}
        for section in report.families
    ]
    return environment.get_template("page.html").render(
        **{**vars(report), "families": families},
        contents=contents,
        long=LONG,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),  # our own: its quotes are no text
    )


def _embedded(gallery: Gallery) -> dict[str, object]:
    pictures = [
        {**vars(picture), "source": f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"}
        for picture in gallery.pictures
    ]
    return {**vars(gallery), "pictures": pictures}


def to_markdown(report: Report) -> str:
    """The same tables; pictures lie in `results/` beside the file."""
    parts = [f"# {report.title}", report.lead, markdown(report.overview)]
    for section in report.families:
        parts += [f"## {section.title}", *map(markdown, section.tables)]
        for gallery in section.galleries:
            parts.append(f"### {gallery.title}")
            parts += [gallery.note] if gallery.note else []
            parts.append("\n".join(_image(picture) for picture in gallery.pictures))
        parts += [markdown(section.cost)] if section.cost.rows else []
    if report.comparison:
        parts += ["## Across families", *map(markdown, report.comparison)]
    for title, table in (("Runs that are not done", report.unfinished), ("Skipped", report.skipped)):
        parts += [f"## {title}", markdown(table)] if table.rows else []
    return "\n\n".join(parts) + "\n"


def _image(picture: Picture) -> str:
    caption = picture.caption.replace("[", "(").replace("]", ")")
    return f"![{caption}]({PICTURES}/{picture.name}.png)"
