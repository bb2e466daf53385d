"""docs/results.md is the report of the records in docs/runs, and a record is what a report reads of a run."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import write_results
from kites import draw

from genbench.commands.report import main as report
from genbench.errors import ConfigError

MakeRun = Callable[..., Path]
DOCS = Path(write_results.__file__).parent


def test_the_page_is_the_report_of_the_records(tmp_path: Path) -> None:
    text = write_results.page(tmp_path)
    assert (DOCS / "results.md").read_text(encoding="utf-8") == text
    named = re.findall(r"\]\(results/([^)]+\.png)\)", text)
    assert named, "the page shows nothing"
    assert sorted(named) == sorted(path.name for path in (DOCS / "results").glob("*.png"))
    assert "## Left out" not in text


def test_the_table_of_the_small_gans_holds_what_they_measured() -> None:
    text = (DOCS / "measurements.md").read_text(encoding="utf-8").replace("**", "")
    numbers = r"([\d., ]+)"  # of each seed
    rows = re.findall(
        rf"^\| `(cifar10-.*-small)` \| [^|]+ \| {numbers} \| [\d.]+ \| {numbers} \|$", text, re.MULTILINE
    )
    assert sorted(name for name, *_ in rows) == sorted(path.name for path in DOCS.glob("runs/cifar10-*-small"))
    for name, *told in rows:
        records = sorted((DOCS / "runs" / name).glob("seed-*/summary.json"))
        metrics = [json.loads(path.read_text(encoding="utf-8"))["metrics"] for path in records]
        assert told == [
            ", ".join(f"{each[key]['final']['value']:.2f}" for each in metrics)
            for key in ("test/fid", "test/critic_tracks_fid")
        ]


def test_a_record_says_the_same_as_its_run(make_run: MakeRun, outputs: Path, tmp_path: Path) -> None:
    runs = [make_run("red-kite", seed, pictures=["figures/kite-end.png", "figures/extra-end.png"]) for seed in (1, 2)]
    draw(outputs / "sweep-kites.png", "Kites")
    draw(outputs / "sweep-planes.png", "Planes")
    for run in runs:
        write_results.keep(run, tmp_path / "runs")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("runs/**/*") if path.is_file()) == [
        *(f"runs/red-kite/seed-1/{name}" for name in ("figures/kite-end.png", "metrics.jsonl", "status.json")),
        "runs/red-kite/seed-1/summary.json",
        *(f"runs/red-kite/seed-2/{name}" for name in ("metrics.jsonl", "status.json", "summary.json")),
        "runs/sweep-kites.png",
    ]
    for name, root in (("of-runs", outputs), ("of-records", tmp_path / "runs")):
        report([str(root), "--out", str(tmp_path / name)])
    said = [(tmp_path / name / "results.csv").read_text() for name in ("of-runs", "of-records")]
    assert said[0] == said[1]


def test_no_record_says_where_its_files_lay() -> None:
    for path in DOCS.glob("runs/*/*/summary.json"):
        assert re.search(r"(data|output)_root=", path.read_text(encoding="utf-8")) is None, path


def test_a_record_takes_the_place_of_an_older_one(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(pictures=["figures/kite-end.png"])
    record = write_results.keep(run, tmp_path / "runs")
    (run / "figures" / "kite-end.png").unlink()
    assert write_results.keep(run, tmp_path / "runs") == record
    assert not (record / "figures").exists()


def test_a_record_is_not_kept_in_its_own_place(make_run: MakeRun, tmp_path: Path) -> None:
    record = write_results.keep(make_run(pictures=["figures/kite-end.png"]), tmp_path / "runs")
    before = contents(tmp_path / "runs")
    with pytest.raises(ConfigError, match="is a record already"):
        write_results.keep(record, tmp_path / "runs")
    assert contents(tmp_path / "runs") == before


def test_a_record_stays_where_a_new_one_cannot_be_written(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(pictures=["figures/kite-end.png"])
    write_results.keep(run, tmp_path / "runs")
    before = contents(tmp_path / "runs")

    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_results.keep(run, tmp_path / "runs")
    assert contents(tmp_path / "runs") == before


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_sweep_is_kept_point_by_point(make_run: MakeRun, tmp_path: Path) -> None:
    pictures = ["figures/kite-end.png"]
    runs = [make_run(changed=changed, pictures=pictures) for changed in ({}, {"dataset.theta": 0.5})]
    kept = [write_results.keep(run, tmp_path / "runs") for run in runs]
    assert [path.name for path in kept] == ["seed-1", "theta=0.5,seed-1"]
    assert [(path / "figures").exists() for path in kept] == [True, False]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"status": "running"}, "is running"),
        ({"changed": {"model.layers": 3}}, "red-kite with layers=3"),
        ({"changed": {"model.layers": 3, "dataset.theta": 0.5}}, "red-kite with layers=3, theta=0.5"),
    ],
)
def test_what_is_no_result_is_not_kept(
    how: dict[str, object], message: str, make_run: MakeRun, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        write_results.keep(make_run(**how), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_run_that_is_not_whole_is_not_kept(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    (run / "metrics.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"not a whole run directory: metrics\.jsonl is missing"):
        write_results.keep(run, tmp_path / "runs")
