"""Write keys.md from YAML files and signatures: `python docs/write_keys.py`.

Of genbench's own components alone, whatever plug-ins are installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from genbench import compose
from genbench.catalogue.files import Catalogue
from genbench.catalogue.keys import GROUPS, Key, changed, key_names, keys
from genbench.commands.text import names

PAGE = Path(__file__).resolve().with_name("keys.md")

HEAD = """\
# Keys

Every key of the configuration, which `genbench KEY=VALUE` sets; `genbench explain KEY` says the same, also of
plug-ins. Written by `python docs/write_keys.py` from the comments in `conf/`, the signatures of components and the
experiments: change those. Column *of*: the components that have the key.
"""
ENTRY = "Every run"
ESCAPED = re.compile(r"[|*]")  # what Markdown would take for its own


def page() -> str:
    """The text of the page."""
    catalogue = Catalogue([compose.CONFIG_DIRECTORY])
    sections: dict[str, list[dict[str, str]]] = {}
    for name in key_names(catalogue):
        place = name.rpartition(".")[0]
        rows = sections.setdefault(f"`{place}`" if place in GROUPS else ENTRY, [])
        rows += [_row(catalogue, key) for key in keys(catalogue, name)]
    return "\n".join([HEAD, *(line for title, rows in sections.items() for line in _section(title, rows))])


def _row(catalogue: Catalogue, key: Key) -> dict[str, str]:
    """By column."""
    by = (f"{value}: {names(who, catalogue.experiments)}" for value, who in changed(catalogue, key).items())
    return {
        "key": f"`{key.name}`",
        "of": ", ".join(key.components),
        "meaning": key.meaning,
        "values": key.values,
        "default": key.default,
        "changed by": "<br>".join(by),
    }


def _section(title: str, rows: list[dict[str, str]]) -> Iterator[str]:
    """A table, without columns that are empty."""
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    yield f"## {title}\n"
    yield _line(columns)
    yield "|" + "---|" * len(columns)
    yield from (_line(row[column] for column in columns) for row in rows)
    yield ""


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(ESCAPED.sub(r"\\\g<0>", cell) for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
