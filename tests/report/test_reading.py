"""Run directories are read whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from genbench.compose import natural
from genbench.errors import ConfigError
from genbench.report.events import damage
from genbench.report.reading import Damaged, Problem, find, read

MakeRun = Callable[..., Path]

VALUES = {"valid/elbo": [(10, -120.0), (20, -101.0)], "train/elbo": [(5, math.nan), (20, -99.0)]}


def test_a_run_is_read_with_all_its_values(make_run: MakeRun) -> None:
    run = read(make_run("vae-binmnist-L100", 3, VALUES))
    assert (run.name, run.seed, run.state, run.problems) == ("vae-binmnist-L100", 3, "done", ())
    assert [(point.step, point.value) for point in run.curves["valid/elbo"]] == VALUES["valid/elbo"]
    assert math.isnan(run.curves["train/elbo"][0].value)
    assert run.last_line == "step 20: train/elbo -99, valid/elbo -101"


def truncate(path: Path, by: int) -> None:
    os.truncate(path, path.stat().st_size - by)


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new))

    return change


def add_line(line: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        with (run / "metrics.jsonl").open("a") as file:
            file.write(line + "\n")

    return change


def replace_in_summary(key: str, value: Any) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps(summary | {key: value}))

    return change


def drop_last_rows(run: Path) -> None:
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(rows[:2]))


DAMAGES = {
    "a row cut off": (lambda run: truncate(run / "metrics.jsonl", 9), "middle of a line"),
    "a row that is none": (add_line("{]"), "line 5 is not a row"),
    "a row without a value": (add_line('{"step": 20, "epoch": 2.0, "metric": "valid/elbo"}'), "line 5 is not a row"),
    "a row without a step": (
        add_line('{"step": null, "epoch": 2.0, "metric": "valid/elbo", "value": 1.0}'),
        "line 5 is not a row",
    ),
    "steps that go back": (
        add_line('{"step": 3, "epoch": 0.3, "time": 1, "metric": "valid/elbo", "value": -1.0}'),
        "goes back from step 20 to step 3",
    ),
    "logs that end early": (drop_last_rows, "ends at step 10, but status.json says done at step 20"),
    "logs that go too far": (edit("status.json", '"step": 20', '"step": 19'), "says done at step 19"),
    "no logs": (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl is missing"),
    "no status": (lambda run: (run / "status.json").unlink(), "status.json is missing"),
    "half a status": (lambda run: truncate(run / "status.json", 30), "status.json cannot be read"),
    "an unknown status": (edit("status.json", '"done"', '"asleep"'), "asleep"),
    "no summary": (lambda run: (run / "summary.json").unlink(), "summary.json is missing"),
    "half a summary": (lambda run: truncate(run / "summary.json", 100), "summary.json cannot be read"),
    "a summary of another seed": (edit("summary.json", '"seed": 1', '"seed": 2'), "summary.json has seed 2"),
    "a summary of other values": (edit("summary.json", "-101.0", "-100.0"), "valid/elbo is -100.0 in summary.json"),
    "no metrics at all": (replace_in_summary("metrics", None), "summary.json: metrics is None"),
    "no protocol": (replace_in_summary("protocol", None), "summary.json: protocol is None"),
    "a best value that is none": (
        replace_in_summary("metrics", {"valid/elbo": {"final": {"value": -101.0}, "best": {}}}),
        "valid/elbo is not whole",
    ),
    "half a member": (replace_in_summary("members", [{"seed": 1, "metrics": {}}]), "a member has no experiment"),
    "a task that is a word": (
        lambda run: (run / "config.yaml").write_text("name: x\nseed: 1\ntask: x\ndataset: {}\ntrainer: {}\n"),
        "no task.name",
    ),
    "a best value in words": (
        replace_in_summary("metrics", {"valid/elbo": {"final": {"value": -101.0}, "best": {"value": "high"}}}),
        "valid/elbo is not whole",
    ),
    "a task without a name": (edit("config.yaml", "task:\n  name: variational", "task:\n  x: y"), "no task.name"),
    "half a configuration": (edit("config.yaml", "seed: 1", "seed: ["), "config.yaml cannot be read"),
    "no seed": (edit("config.yaml", "seed: 1\n", ""), "config.yaml has no seed"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_named(what: str, make_run: MakeRun) -> None:
    run = make_run("vae-binmnist-L100", 1, VALUES)
    change, reason = DAMAGES[what]
    change(run)
    with pytest.raises(Damaged, match=reason.replace(".", r"\.")):
        read(run)


@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_unfinished_runs_need_no_summary(status: str, make_run: MakeRun) -> None:
    run = read(make_run("vae-binmnist-L100", 1, VALUES, status=status))
    assert (run.state, run.summary) == (status, {})


def test_the_last_line_of_a_failed_run_is_its_error(make_run: MakeRun) -> None:
    trace = "Traceback (most recent call last):\n  File …\nRuntimeError: out of memory\n"
    run = read(make_run("vae-binmnist-L100", 1, VALUES, status="failed", details={"error": trace}))
    assert run.last_line == "RuntimeError: out of memory"


def test_a_run_that_fails_while_it_is_resumed_tells_its_error(make_run: MakeRun) -> None:
    """It then stands at its checkpoint, and its logs still at where it was stopped before."""
    path = make_run("vae-binmnist-L100", 1, VALUES, status="failed", details={"error": "RuntimeError: other weights"})
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps(status | {"step": 10}))
    assert read(path).last_line == "RuntimeError: other weights"


# Event files


def event_file(run: Path) -> Path:
    (path,) = (run / "tensorboard").iterdir()
    return path


def test_a_whole_event_file_has_no_damage(make_run: MakeRun) -> None:
    path = event_file(make_run("vae-binmnist-L100", 1, VALUES))
    steps = [event.step for event in LegacyEventFileLoader(str(path)).Load()]
    assert damage(path) == ("", max(steps))


@pytest.mark.parametrize("cut", [1, 4, 5, 30])
def test_an_event_file_cut_off_anywhere_is_named_and_its_run_kept(cut: int, make_run: MakeRun) -> None:
    directory = make_run("vae-binmnist-L100", 1, VALUES)
    truncate(event_file(directory), cut)
    run = read(directory)
    (problem,) = run.problems
    assert problem.path == event_file(directory)
    assert "is cut off" in problem.reason
    assert run.curves["valid/elbo"][-1].value == -101.0  # from metrics.jsonl, which is whole


@pytest.mark.parametrize("place", [2, -9])  # in the first record's length, in the last record's data
def test_a_flipped_bit_is_found(place: int, make_run: MakeRun) -> None:
    path = event_file(make_run("vae-binmnist-L100", 1, VALUES))
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    assert "damaged record" in damage(path)[0]


def test_whole_event_files_that_end_too_early_are_named(make_run: MakeRun) -> None:
    long, short = (make_run("vae-binmnist-L100", s, v) for s, v in ((1, VALUES), (2, {"valid/elbo": [(10, -1.0)]})))
    event_file(long).write_bytes(event_file(short).read_bytes())
    (problem,) = read(long).problems
    assert "end at step 10, those of metrics.jsonl at step 20" in problem.reason


# Finding


def test_runs_are_found_once_and_nothing_else_is(make_run: MakeRun, outputs: Path) -> None:
    first, second = make_run("vae-binmnist-L100", 1), make_run("dirac-w1-1", 1, {"eval/distance": [(5, 1.0)]})
    (outputs / ".sweep" / "x").mkdir(parents=True)
    (outputs / ".sweep" / "x" / "config.yaml").write_text("{}")
    (outputs / "notes").mkdir()
    assert set(find([outputs], [])) == {first, second} == set(find([outputs, first, outputs / "dirac-w1-1"], []))


def test_a_directory_with_only_half_a_run_is_found_and_named(make_run: MakeRun, outputs: Path) -> None:
    run = make_run("vae-binmnist-L100", 1)
    (run / "status.json").unlink()
    assert find([outputs], []) == [run]


def test_links_to_runs_are_followed_once(make_run: MakeRun, outputs: Path, tmp_path: Path) -> None:
    run = make_run("vae-binmnist-L100", 1)
    links = tmp_path / "links"
    links.mkdir()
    (links / "mine").symlink_to(run)
    (links / "again").symlink_to(run)
    (links / "round").symlink_to(links)
    assert [path.resolve() for path in find([links], [])] == [run.resolve()]
    assert len(find([outputs, links], [])) == 1


def test_a_directory_that_cannot_be_listed_is_named(
    make_run: MakeRun, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may list everything, so the operating system's answer is made up."""
    make_run("vae-binmnist-L100", 1)
    scan = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("vae-binmnist-L100"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    problems: list[Problem] = []
    assert find([outputs], problems) == []
    assert [(problem.path.name, problem.reason) for problem in problems] == [
        ("vae-binmnist-L100", "cannot be listed: Permission denied")
    ]


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a directory"):
        find([tmp_path / "nowhere"], [])


def test_numbers_in_names_sort_as_numbers() -> None:
    names = ["dirac-w1-10", "dirac-w1-2", "flow-k32", "flow-k8"]
    assert sorted(names, key=natural) == ["dirac-w1-2", "dirac-w1-10", "flow-k8", "flow-k32"]
