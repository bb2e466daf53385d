"""The page of promises names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_test_that_the_page_names_exists() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    path, named = "", 0
    for row in page.splitlines():
        for found, test in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", row):
            path = found or path
            assert re.search(rf"(def|class) {test}\b", (ROOT / path).read_text(encoding="utf-8")), f"{path}::{test}"
            named += 1
    assert named > 30
