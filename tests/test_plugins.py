"""docs/extending.md does what it says: its files, put into a package, are a working plug-in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
FILES = re.findall(r"^`(my_bench/[^`]+)`:?\n\n```\w*\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's package, as pip would have installed it."""
    site = tmp_path_factory.mktemp("site")
    for name, content in FILES:
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    info = site / "my_bench-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-bench\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[genbench.plugins]\nmy_bench = my_bench\n")
    return site


def run(plugin: Path, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(plugin), "GENBENCH_DATA": str(directory / "data")}
    return subprocess.run(
        [sys.executable, "-m", "genbench.train", *words],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_page_shows_a_whole_package() -> None:
    names = {name for name, _ in FILES}
    assert {"my_bench/__init__.py", "my_bench/conf/experiment/least-squares-dirac.yaml"} <= names


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=least-squares-dirac"],  # a loss and an experiment
        ["experiment=dirac-w1-1", "model=offset-dirac", "model.offset=0.5"],  # a model
        ["experiment=vae-mnist5k", "dataset=stripes"],  # a data set
    ],
    ids=["loss and experiment", "model", "data set"],
)
def test_the_page_works(plugin: Path, tmp_path: Path, words: list[str]) -> None:
    result = run(plugin, tmp_path, *words, "trainer.max_steps=3")
    assert result.returncode == 0, result.stderr
    (summary,) = tmp_path.glob("outputs/*/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "done"


def test_mistakes_in_a_plug_in_component_are_told_alike(plugin: Path, tmp_path: Path) -> None:
    result = run(plugin, tmp_path, "experiment=dirac-w1-1", "model=offset-dirac", "model.offset=far")
    assert result.returncode == 2
    assert "model.offset" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_broken_plug_in_is_named(plugin: Path, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    info = broken / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (broken / "broken.py").write_text("import no_such_package\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[genbench.plugins]\nbroken = broken\n")
    result = run(broken, tmp_path, "experiment=dirac-w1-1")
    assert result.returncode == 2
    assert "plug-in broken" in result.stderr
    assert "no_such_package" in result.stderr
