"""`genbench-figures`: pictures of finished runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from shared import smaller

from genbench import compose
from genbench.commands.figures import main
from genbench.engine.rundir import RunDirectory

Genbench = Callable[..., int]


def run_of(directory: Path, experiment: str) -> Path:
    (run,) = (directory / "outputs" / experiment).iterdir()
    return run


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize(
    ("experiment", "drawn"),
    [
        ("vae-mnist5k", {"curves-end.png", "samples-end.png", "reconstructions-end.png", "stages-end.png"}),
        ("flow-arcs-samples-k2", {"curves-end.png", "density-end.png", "samples-end.png"}),
    ],
)
def test_redraw_makes_the_same_pictures(genbench: Genbench, tmp_path: Path, experiment: str, drawn: set[str]) -> None:
    assert genbench(f"experiment={experiment}", *smaller(experiment), "trainer.epochs=2", "trainer.max_steps=7") == 0
    figures = run_of(tmp_path, experiment) / "figures"
    before = {path.name: path.read_bytes() for path in figures.glob("*-end.png")}
    assert drawn <= set(before)
    for path in figures.iterdir():
        path.unlink()
    main(["redraw", str(run_of(tmp_path, experiment))])
    after = {path.name: path.read_bytes() for path in figures.iterdir()}
    assert after == before


def test_pictures_of_an_experiment_of_ones_own_keep_their_titles(genbench: Genbench, tmp_path: Path) -> None:
    """Where its file lies is not known when it is drawn again."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults: [dirac-w1-3, _self_]\nname: mine-1\n"
    (tmp_path / "mine" / "experiment" / "mine-1.yaml").write_text(text)
    assert genbench("--config-dir", "mine", "experiment=mine-1", "trainer.max_steps=20", "optimizer.lr=0.5") == 0
    picture = run_of(tmp_path, "mine-1") / "figures" / "trajectory-end.png"
    before = picture.read_bytes()
    compose.add_search_path()
    main(["redraw", str(run_of(tmp_path, "mine-1"))])
    assert picture.read_bytes() == before


def test_what_is_not_done_is_not_redrawn(
    genbench: Genbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert genbench("experiment=dirac-w1-3", "trainer.max_steps=20") == 0
    run = run_of(tmp_path, "dirac-w1-3")
    RunDirectory(run).set_status("interrupted", 10)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(SystemExit, match="2"):
        main(["redraw", str(run)])
    assert "is interrupted, not done\n  repeat its command" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_animate(genbench: Genbench, tmp_path: Path) -> None:
    assert genbench("experiment=dirac-w1-3", "trainer.max_steps=20") == 0
    main(["animate", str(run_of(tmp_path, "dirac-w1-3"))])
    with Image.open(run_of(tmp_path, "dirac-w1-3") / "figures" / "trajectory.gif") as animation:
        assert animation.n_frames > 1


def test_dirac_pairs(genbench: Genbench, capsys: pytest.CaptureFixture[str]) -> None:
    """At the end of a sweep over several experiments, beside their directories, and on demand."""
    names = ("dirac-w1-1", "dirac-w1-6", "dirac-jsd-2")
    assert genbench("-m", f"experiment={','.join(names)}", "trainer.max_steps=20") == 0
    picture = Path("outputs/sweep-dirac-w1.png")
    assert f"picture      {picture}" in capsys.readouterr().out
    drawn = picture.read_bytes()
    picture.unlink()
    main(["sweep", *(f"outputs/{name}" for name in names)])
    assert capsys.readouterr().out.split() == [str(picture)]
    assert picture.read_bytes() == drawn
    assert list(Path("outputs").rglob("sweep-*")) == [picture]  # the twin of JSD is missing


def test_a_picture_of_runs_knows_its_family(genbench: Genbench) -> None:
    """Written into the file, for whoever collects pictures."""
    assert genbench("-m", "experiment=dirac-w1-1,dirac-w1-6", "trainer.max_steps=5") == 0
    with Image.open("outputs/sweep-dirac-w1.png") as picture:
        assert picture.text["Family"] == "Dirac-GANs"


@pytest.mark.parametrize(
    "words",
    [
        ["redraw", "nowhere"],
        ["animate", "nowhere"],
        ["sweep", "nowhere"],
        ["planar-maps", "--out", "pictures/maps.bmp"],
        ["planar-maps", "--out", "."],
    ],
)
def test_bad_input(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("genbench-figures: ")
    assert list(tmp_path.iterdir()) == []


def test_planar_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["planar-maps", "--out", "pictures/maps.png"])
    main(["planar-maps", "--out", "pictures/again.png"])
    main(["planar-maps", "--out", "pictures/other.png", "--seed", "2"])
    first, again, other = (
        (tmp_path / "pictures" / f"{name}.png").read_bytes() for name in ("maps", "again", "other")
    )
    assert first == again != other
    with Image.open(tmp_path / "pictures" / "maps.png") as picture:
        assert picture.width > 1500


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sample", "run", "--count", "none"], "a whole number, at least 1"),
        (["sample", "run", "--count", "0"], "a whole number, at least 1"),
        (["planar-maps", "--seed", "-1"], "a whole number, 0 to 4294967295"),
    ],
)
def test_a_wrong_number_is_told_with_its_range(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert told in capsys.readouterr().err
