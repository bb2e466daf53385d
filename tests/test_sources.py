"""docs/sources.md names every source of a published value, and none that nobody cites."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "sources.md"
GENERATED = ROOT / "docs" / "results.md"
ENTRIES = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
KEYS = [key for key, _ in ENTRIES]


def sources() -> Iterator[tuple[str, str]]:
    """Experiment and source of every published value, as its YAML has it."""
    for path in sorted((ROOT / "conf" / "experiment").rglob("*.yaml")):
        written: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        for entry in written.get("reference", []):
            yield path.stem, entry["source"]


def citing_text() -> str:
    """All of conf/, genbench/ and docs/ but the page itself and the report, on one line."""
    paths = [path for folder in ("conf", "genbench", "docs") for path in sorted((ROOT / folder).rglob("*"))]
    texts = (
        path.read_text(encoding="utf-8")
        for path in paths
        if path.suffix in {".yaml", ".py", ".md"} and path not in {PAGE, GENERATED}
    )
    return " ".join(" ".join(texts).split())


CITING = citing_text()


def test_keys_are_unique() -> None:
    assert len(set(KEYS)) == len(KEYS) > 40


@pytest.mark.parametrize(("experiment", "source"), sorted(set(sources())))
def test_a_source_begins_with_a_key(experiment: str, source: str) -> None:
    assert any(re.match(rf"{re.escape(key)}(,|$)", source) for key in KEYS)


@pytest.mark.parametrize(("key", "rest"), ENTRIES, ids=KEYS)
def test_a_key_is_cited(key: str, rest: str) -> None:
    """By its key or, where a docstring names all authors, by its arXiv number."""
    numbers = re.findall(r"arxiv\.org/abs/([\d.]+)", rest)
    assert any(name in CITING for name in (key, *numbers))
