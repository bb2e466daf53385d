"""What a metric means, its task says: no other module knows one by its name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import genbench

ROOT = Path(genbench.__file__).parent
NAME = re.compile(r"\b(?:train|valid|test|eval|theory|state)/[a-z_0-9]+")
KNOW_THEM = {"tasks", "losses", "metrics"}
MODULES = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in KNOW_THEM]


def strings(source: str) -> list[str]:
    """Every string in a module, docstrings and the fixed parts of f-strings among them."""
    tree = ast.parse(source)
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_metric_is_named_outside_of_the_families(path: Path) -> None:
    found = [name for text in strings(path.read_text(encoding="utf-8")) for name in NAME.findall(text)]
    assert found == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('best("eval/fid")', ["eval/fid"]),
        ('def f():\n    """Draws test/elbo."""', ["test/elbo"]),
        ('f"test/10k_{split}_fid"', ["test/10k_"]),
        ('"latest/elbo, samples/generated, tests/golden"  # eval/fid', []),
    ],
)
def test_what_counts_as_a_name(source: str, names: list[str]) -> None:
    assert [name for text in strings(source) for name in NAME.findall(text)] == names
