"""The house keeps its floors: imports point down, and light modules stay light."""

from __future__ import annotations

import re
from pathlib import Path

import draw_architecture
import pytest
from draw_architecture import PACKAGE as ROOT
from draw_architecture import floors, imports, modules, read_graph, room_of

# What a module may import of genbench, by its room: its package, or its name at the top level.
# docs/architecture.svg draws what they do import.
GROUND = {"errors", "naming", "registry", "functional"}
ALLOWED = {
    "errors": set(),
    "naming": set(),
    "numerals": set(),
    "terminal": set(),
    "registry": {"errors", "naming"},
    "functional": set(),
    "atomic": set(),
    "output": {"errors"},
    "config": {"errors", "naming", "registry"},
    "identity": {"config", "registry"},
    "arguments": {"errors"},
    "compose": {"arguments", "errors", "naming", "registry", "config"},
    "catalogue": {"compose", "config", "errors", "naming", "registry"},
    "bijections": GROUND,
    "data": GROUND | {"atomic", "engine"},
    "figures": GROUND | {"atomic"},
    "engine": GROUND | {"atomic", "config", "terminal"},
    "optimizers": GROUND | {"engine"},
    "regularizers": GROUND | {"engine"},
    "losses": GROUND,
    "models": GROUND | {"bijections", "engine"},
    "metrics": GROUND | {"data", "engine"},
    "tasks": GROUND | {"data", "engine", "figures", "losses", "metrics", "regularizers"},
    "provenance": {"config", "engine", "registry"},
    "summary": {"config", "engine", "identity", "provenance"},
    "outcome": {"engine", "errors"},
    "ending": {"engine", "numerals", "outcome", "terminal"},
    "build": {"errors", "config", "data", "engine", "registry", "tasks"},
    "run": GROUND
    | {"build", "compose", "config", "data", "engine", "figures", "identity", "outcome", "parents"}
    | {"numerals", "provenance", "summary", "trackers"},
    "ensemble": {"compose", "config", "data", "engine", "errors", "identity", "outcome", "run", "sweeps", "tasks"}
    | {"build"},
    "preflight": {"build", "compose", "config", "data", "engine", "ensemble", "errors", "identity", "parents"}
    | {"run", "tasks", "trackers"},
    "jobs": {"config", "engine", "ensemble", "errors", "outcome", "preflight", "run"},
    "launching": {
        "arguments",
        "atomic",
        "compose",
        "config",
        "ending",
        "engine",
        "ensemble",
        "errors",
        "figures",
        "jobs",
        "outcome",
    }
    | {"preflight", "registry", "run", "sweeps"},
    "loaded": {"build", "config", "data", "engine", "errors", "identity", "registry"},
    "parents": {"config", "engine", "errors", "identity", "loaded"},
    "door": {"data", "engine", "errors", "loaded", "report"},
    "export": {"atomic", "engine", "errors", "identity", "loaded", "metrics"},
    "pack": {"config", "errors", "loaded", "numerals", "registry", "report"},
    "trackers": {"atomic", "errors", "report"},
    "evaluate": {"atomic", "config", "engine", "errors", "identity", "loaded", "naming", "provenance", "registry"},
    "foreign_images": {"atomic", "data", "engine", "errors", "metrics", "provenance", "registry", "tasks"},
    "sweeps": {"atomic", "engine", "errors", "loaded", "registry"},
    "report": {"catalogue", "config", "engine", "errors", "figures", "identity", "naming", "numerals", "registry"},
    "commands": {
        "arguments",
        "atomic",
        "bijections",
        "catalogue",
        "compose",
        "engine",
        "errors",
        "figures",
        "identity",
        "naming",
        "report",
    }
    | {"config", "evaluate", "export", "foreign_images", "loaded", "output", "pack", "run", "sweeps", "tasks"}
    | {"numerals", "registry", "terminal", "trackers"},
    "train": {"arguments", "commands", "compose", "launching", "output"},
}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    assert imports(path) - {room} <= (ALLOWED[room] if room else {"door"})


def test_the_architecture_page_names_every_package() -> None:
    page = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    names = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    names |= {p.name for p in ROOT.glob("*.py") if p.stem != "__init__"}
    assert [name for name in sorted(names) if f"`{name}" not in page] == []


def test_there_is_no_circle_in_the_table() -> None:
    """What a room may import never leads back to it."""
    floors(ALLOWED)


def test_there_is_no_circle_between_the_rooms() -> None:
    floors(read_graph())


def test_a_circle_is_named() -> None:
    with pytest.raises(ValueError, match=r"a circle: b → c → b"):
        floors({"a": {"b"}, "b": {"c"}, "c": {"b"}})


@pytest.mark.parametrize(
    ("line", "rooms"),
    [
        ("import genbench", set()),
        ("import genbench.losses.base as base, torch.data", {"losses"}),
        ("from genbench import registry, __doc__", {"registry"}),
        ("from genbench.engine.task import Task", {"engine"}),
        ("from . import vae", {"models"}),
        ("from .. import run", {"run"}),
        ("from ..data.files import ensure", {"data"}),
        ("def f():\n    from genbench.run import run", {"run"}),
        ("if TYPE_CHECKING:\n    from genbench.compose import check", {"compose"}),
    ],
)
def test_every_kind_of_import_is_read(
    line: str, rooms: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw_architecture, "PACKAGE", tmp_path / "genbench")
    for room in ("compose", "data", "engine", "losses", "models", "registry", "run"):
        (tmp_path / "genbench" / room).mkdir(parents=True)
        (tmp_path / "genbench" / room / "__init__.py").touch()
    module = tmp_path / "genbench" / "models" / "new.py"
    module.write_text(line, encoding="utf-8")
    assert imports(module) == rooms


def test_imports_that_follow_from_others_are_not_drawn() -> None:
    graph = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert draw_architecture.reduced(graph) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}


def test_the_picture_is_of_this_code() -> None:
    stored = draw_architecture.PICTURE.read_text(encoding="utf-8")
    if stored != draw_architecture.draw():
        pytest.fail(
            "docs/architecture.svg is of older code; redraw it: python docs/draw_architecture.py", pytrace=False
        )


def test_hydra_is_imported_in_two_rooms_and_nothing_private_of_it() -> None:
    uses = {
        path: lines
        for path in ROOT.rglob("*.py")
        if (lines := re.findall(r"^\s*(?:from|import) (hydra\S*)", path.read_text(encoding="utf-8"), re.M))
    }
    assert {room_of(path) for path in uses} == {"compose", "launching"}
    assert not [name for lines in uses.values() for name in lines if "._" in name]
