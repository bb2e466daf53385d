"""A report of more settings than anybody looks through: all in the tables, the best ones in sections and curves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from genbench.commands.report import main
from genbench.report import leading

MakeRun = Callable[..., Path]
TILTS = (0.4, 0.1, 0.5, 0.2, 0.3)  # of kites with 1, 2, … layers; lower is better


@pytest.fixture
def page(make_run: MakeRun, outputs: Path, tmp_path: Path) -> Callable[[], str]:
    """page() reports five settings of one kite, and one of another that tilts more than all of them."""
    for layers, tilt in enumerate(TILTS, 1):
        logged = {10: {"valid/tilt": 0.9}, 20: {"valid/tilt": tilt}}
        make_run("red-kite", 1, logged, changed={"model.layers": layers}, pictures=["figures/kite-end.png"])
    make_run("box-kite", 1, {10: {"valid/tilt": 0.9}, 20: {"valid/tilt": 0.8}}, pictures=["figures/kite-end.png"])

    def write() -> str:
        main([str(outputs), "--out", str(tmp_path / "report")])
        return (tmp_path / "report" / "index.html").read_text(encoding="utf-8")

    return write


def sections(page: str) -> list[str]:
    return re.findall(r"<h3>([^<]*)<", page)


def test_of_many_settings_the_best_of_each_experiment_have_sections(
    page: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "SECTIONS", 3)
    monkeypatch.setattr(leading, "CURVES", 4)
    found = page()
    assert sections(found) == ["box-kite", "red-kite (layers=2)", "red-kite (layers=4)"]
    assert "The best have sections and pictures, 3 of 6 of Kites; the tables hold all." in found
    for layers in range(1, 6):
        assert f"<small>layers={layers}</small>" in found
    written = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    assert len(written["runs"]) == len(written["results"]) == 6
    assert sum("kite-end" in name for name in written["pictures"]) == 3
    curves = re.findall(r'alt="tilt [^"]*over training ([^"]*)"', found)
    assert curves == [f"(the best 4 of 6): {', '.join(f'red-kite (layers={layers})' for layers in (1, 2, 4, 5))}"]
    links = set(re.findall(r'href="#(run-[^"]*)"', found))
    assert links == set(re.findall(r'<article id="([^"]*)"', found))


def test_all_of_a_few_settings_have_sections(page: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "SECTIONS", 6)
    found = page()
    assert len(sections(found)) == 6
    assert "The best have" not in found and "the best" not in found
