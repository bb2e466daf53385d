"""The house keeps its floors: imports point down, and light modules stay light."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import genbench

ROOT = Path(genbench.__file__).parent

# What a module may import of genbench, by its package (or name, at the top level). docs/architecture.md draws it.
GROUND = {"errors", "registry", "functional"}
ALLOWED = {
    "errors": set(),
    "registry": {"errors"},
    "functional": set(),
    "config": {"errors", "registry"},
    "compose": {"errors", "registry", "config"},
    "bijections": GROUND,
    "data": GROUND,
    "figures": GROUND,
    "engine": GROUND | {"config"},
    "optimizers": GROUND | {"engine"},
    "regularizers": GROUND | {"engine"},
    "losses": GROUND,
    "models": GROUND | {"bijections", "engine"},
    "metrics": GROUND | {"data", "engine"},
    "tasks": GROUND | {"data", "engine", "figures", "losses", "metrics", "regularizers"},
    "run": GROUND | {"compose", "config", "data", "engine", "identity", "summary", "tasks"},
    "ensemble": {"compose", "config", "data", "engine", "errors", "identity", "run", "tasks"},
    "jobs": {"compose", "ensemble", "errors", "run"},
    "identity": {"config", "registry"},
    "summary": {"config", "engine", "identity"},
    "sweeps": {"engine", "registry"},
    "report": {"compose", "config", "engine", "errors", "figures", "registry"},
    "commands": {"bijections", "compose", "config", "engine", "errors", "figures", "registry", "report"}
    | {"run", "sweeps"},
    "train": {"commands", "compose", "errors", "jobs", "run", "sweeps"},
}


def imports(path: Path) -> set[str]:
    """The genbench packages that a module imports anywhere, those for type checkers included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "genbench":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("genbench.")}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    place = path.relative_to(ROOT)
    package = place.parts[0] if len(place.parts) > 1 else place.stem
    if package == "__init__":
        assert imports(path) == set()
        return
    assert imports(path) - {package} <= ALLOWED[package]


def test_the_architecture_page_names_every_package() -> None:
    page = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    names = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    names |= {p.name for p in ROOT.glob("*.py") if p.stem != "__init__"}
    assert [name for name in sorted(names) if f"`{name}" not in page] == []


def test_there_is_no_circle() -> None:
    """The table itself: what a package may import never leads back to it."""

    def below(package: str, path: tuple[str, ...]) -> None:
        assert package not in path, " → ".join((*path, package))
        for other in ALLOWED[package]:
            below(other, (*path, package))

    for package in ALLOWED:
        below(package, ())


def test_hydra_is_imported_in_one_place_and_nothing_private_of_it() -> None:
    uses = {
        path.relative_to(ROOT).as_posix(): lines
        for path in ROOT.rglob("*.py")
        if (lines := re.findall(r"^\s*(?:from|import) (hydra\S*)", path.read_text(encoding="utf-8"), re.M))
    }
    assert set(uses) == {"compose.py"}
    assert not [name for name in uses["compose.py"] if "._" in name]
