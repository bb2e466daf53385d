"""Run directories are read whole or not at all."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kites import KITES, QUANTITIES

from genbench.config import Reference
from genbench.engine.measurement import Measurement
from genbench.errors import ConfigError
from genbench.naming import natural
from genbench.report.reading import Damaged, Problem, find, read, readable

MakeRun = Callable[..., Path]

LOGGED = {
    5: {"train/tilt": math.nan},
    10: {"valid/tilt": 0.5},
    20: {"train/tilt": 0.125, "valid/tilt": 0.25, "test/height": Measurement(101.0, 0.5, 104.0, {"wind": "none"})},
}


def test_a_run_is_read_with_all_its_values(make_run: MakeRun) -> None:
    reference = Reference("test/height", 100.0, "someone", protocol={"wind": "none"})
    run = read(make_run("red-kite", 3, LOGGED, changed={"model.layers": 2}, references=[reference]))
    assert (run.name, run.seed, run.state, run.words) == ("red-kite", 3, "done", "layers=2")
    assert list(run.curves["valid/tilt"]) == run.curves["valid/tilt"][:] == [(10, 0.5), (20, 0.25)]
    assert math.isnan(run.curves["train/tilt"][0].value)
    assert run.last_line == "step 20: train/tilt 0.125, valid/tilt 0.25, test/height 101"
    assert (run.family, tuple(run.quantities), run.references) == (KITES, QUANTITIES, [reference])
    assert (run.value("test/height"), run.value("valid/tilt", "best"), run.value("test/line")) == (101.0, 0.25, None)
    assert run.entry("test/height") == {
        "final": {"value": 101.0, "step": 20},
        "best": {"value": 101.0, "step": 20, "evaluations": 1},
        "standard_error": 0.5,
        "truth": 104.0,
        "protocol": {"dataset": "arcs", "split": "30/20/10", "wind": "none"},
    }


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


def summary(**changes: Any) -> Callable[[Path], None]:
    """Replaces keys of summary.json; None takes them away."""

    def change(run: Path) -> None:
        found = json.loads((run / "summary.json").read_text()) | changes
        kept = {key: value for key, value in found.items() if value is not None}
        (run / "summary.json").write_text(json.dumps(kept))

    return change


def metric(**changes: Any) -> Callable[[Path], None]:
    """Replaces what summary.json says of a metric."""
    return summary(metrics={"valid/tilt": {"final": {"value": 0.25}} | changes})


def drop_last_rows(run: Path) -> None:
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(rows[:2]))


NOT_OURS = "is not as this version writes it"
DAMAGES = {
    "a row cut off": (lambda run: truncate(run / "metrics.jsonl", 9), "middle of a line"),
    "a row that is none": (add_line("{]"), "line 6 is not a row"),
    "a row without a value": (add_line('{"step": 20, "epoch": 2.0, "metric": "valid/tilt"}'), "line 6 is not a row"),
    "a row without a step": (add_line('{"step": null, "metric": "m", "value": 1.0}'), "line 6 is not a row"),
    "a row that is a list": (add_line("[20, 1.0]"), "line 6 is not a row"),
    "steps that go back": (add_line('{"step": 3, "metric": "m", "value": 1.0}'), "back from step 20 to step 3"),
    "logs that end early": (drop_last_rows, "ends at step 10, but status.json says done at step 20"),
    "logs that go too far": (edit("status.json", '"step": 20', '"step": 19'), "says done at step 19"),
    "no logs": (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl is missing"),
    "logs that are no text": (lambda run: (run / "metrics.jsonl").write_bytes(b"\xff\n"), "jsonl cannot be read"),
    "no status": (lambda run: (run / "status.json").unlink(), "status.json is missing"),
    "half a status": (lambda run: truncate(run / "status.json", 30), "status.json cannot be read"),
    "a status without a step": (edit("status.json", '"step"', '"stop"'), "status.json has no step"),
    "an unknown status": (edit("status.json", '"done"', '"asleep"'), "asleep"),
    "a list as status": (lambda run: (run / "status.json").write_text("[]"), "status.json has no entries"),
    "no summary": (lambda run: (run / "summary.json").unlink(), "summary.json is missing"),
    "half a summary": (lambda run: truncate(run / "summary.json", 100), "summary.json cannot be read"),
    "a summary of another step": (summary(step=19), "summary.json has step 19, status.json 20"),
    "a summary of a running run": (summary(status=None, metrics=None), "has no proper status, metrics"),
    "a summary of other values": (edit("summary.json", "101.0", "100.0"), "test/height is 100.0 in summary.json"),
    "no name": (summary(name=None), "no proper name"),
    "a seed in words": (summary(seed="one"), "no proper seed"),
    "settings that are none": (summary(settings=[]), "no proper settings"),
    "no metrics at all": (summary(metrics=[]), "no proper metrics"),
    "a family with other fields": (summary(family={"name": "Kites"}), NOT_OURS),
    "a quantity that is a word": (summary(quantities=["test/height"]), NOT_OURS),
    "a quantity that is better to the left": (
        summary(quantities=[{"name": "m", "label": "m", "better": "left"}]),
        "better 'left'",
    ),
    "curves without metrics": (summary(curves={"tilt": None}), NOT_OURS),
    "half a published value": (summary(reference=[{"metric": "m"}]), NOT_OURS),
    "a metric without its final value": (summary(metrics={"valid/tilt": {}}), "valid/tilt is not whole"),
    "a metric that was not logged": (
        summary(metrics={"m": {"final": {"value": 1.0}}}),
        "m is in summary.json, and not",
    ),
    "a best value that is none": (metric(best={}), "valid/tilt is not whole"),
    "a best value in words": (metric(best={"value": "high"}), "valid/tilt is not whole"),
    "a truth in words": (metric(truth="none"), "valid/tilt is not whole"),
    "a limit in words": (metric(least="the entropy"), "valid/tilt is not whole"),
    "an error in words": (metric(monte_carlo_error="small"), "valid/tilt is not whole"),
    "a protocol in words": (metric(protocol="all"), "valid/tilt is not whole"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_named(what: str, make_run: MakeRun) -> None:
    run = make_run("red-kite", 1, LOGGED)
    change, reason = DAMAGES[what]
    change(run)
    with pytest.raises(Damaged, match=re.escape(reason)):
        read(run)


def evaluated(run: Path, name: str, value: float, finished: int, **changes: Any) -> Path:
    """A file of an evaluation that measured `test/height` by another protocol."""
    content = {
        "schema": 1,
        "quantities": [],
        "metrics": {"test/height": {"final": {"value": value, "step": 20}, "protocol": {"ruler": "long"}}},
        "finished": f"2026-01-0{finished}T00:00:00+0000",
    }
    path = run / "evaluations" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content | changes))
    return path


def test_of_evaluations_by_one_protocol_the_newest_counts(make_run: MakeRun) -> None:
    run = make_run("red-kite", 1, LOGGED)
    for name, value, finished in (("b", 1.0, 1), ("a", 3.0, 3), ("c", 2.0, 2)):
        evaluated(run, name, value, finished)
    assert [again.value("test/height") for again in read(run).evaluations] == [None, None, 3.0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics": []}, "no proper quantities, metrics"),
        ({"metrics": {"test/height": {"final": 1.0}}}, "test/height is not whole in b.json"),
        ({"quantities": [{"name": "m", "label": "m", "unheard": "of"}]}, f"b.json {NOT_OURS}"),
        ({"schema": 2}, "b.json was written by another version"),
    ],
)
def test_a_damaged_evaluation_is_left_out_alone(changes: dict[str, Any], said: str, make_run: MakeRun) -> None:
    run = make_run("red-kite", 1, LOGGED)
    evaluated(run, "a", 1.0, 1)
    path = evaluated(run, "b", 2.0, 2, **changes)
    problems: list[Problem] = []
    (found,) = readable([run], problems)
    assert [again.value("test/height") for again in found.evaluations] == [1.0]
    assert [(problem.path, said in problem.reason) for problem in problems] == [(path, True)]


@pytest.mark.parametrize("schema", [None, 1, 3])
def test_a_summary_of_another_version_names_the_command_to_repeat(schema: int | None, make_run: MakeRun) -> None:
    run = make_run("red-kite", 4, LOGGED)
    summary(schema=schema)(run)
    command = "repeat genbench experiment=red-kite seed=4"
    with pytest.raises(Damaged, match=f"another version of genbench: {command}"):
        read(run)


@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_unfinished_runs_say_what_was_known_at_their_start(status: str, make_run: MakeRun) -> None:
    run = read(make_run("red-kite", 1, LOGGED, status=status))
    assert (run.state, run.family, run.references) == (status, KITES, [])
    assert run.value("valid/tilt") is None  # nothing is measured before the end
    assert run.curves["valid/tilt"][-1].value == 0.25


def test_a_run_that_has_logged_nothing_yet_is_running(make_run: MakeRun) -> None:
    run = make_run("red-kite", 1, {}, status="running")
    (run / "metrics.jsonl").unlink()
    assert read(run).last_line == "nothing logged"


def test_a_running_run_may_be_in_the_middle_of_a_row(make_run: MakeRun) -> None:
    for status in ("running", "interrupted"):
        path = make_run("red-kite", 1, LOGGED, status=status)
        truncate(path / "metrics.jsonl", 9)
        if status == "running":
            assert "test/height" not in read(path).curves
            assert read(path).last_line == "step 20: train/tilt 0.125, valid/tilt 0.25"
        else:
            with pytest.raises(Damaged, match="middle of a line"):
                read(path)


def test_the_last_line_of_a_failed_run_is_its_error(make_run: MakeRun) -> None:
    trace = "Traceback (most recent call last):\n  File …\nRuntimeError: out of memory\n"
    assert read(make_run("red-kite", 1, LOGGED, status="failed", error=trace)).last_line == (
        "RuntimeError: out of memory"
    )


@pytest.mark.parametrize("status", ["running", "failed"])
def test_a_resumed_run_may_stand_before_its_logs(status: str, make_run: MakeRun) -> None:
    """At its checkpoint: its logs still stand at where it was stopped before."""
    path = make_run("red-kite", 1, LOGGED, status=status)
    status_file = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps(status_file | {"step": 10}))
    assert (read(path).state, read(path).step) == (status, 20)


def test_a_value_that_is_not_finite_is_null_in_both_files(make_run: MakeRun) -> None:
    run = read(make_run("red-kite", 1, {10: {"valid/tilt": 0.5}, 20: {"valid/tilt": math.inf}}, status="diverged"))
    assert (run.value("valid/tilt"), run.value("valid/tilt", "best")) == (None, 0.5)


# Finding


def test_runs_are_found_once_and_nothing_else_is(make_run: MakeRun, outputs: Path) -> None:
    first, second = make_run("red-kite", 1), make_run("box-kite", 1)
    (outputs / ".sweep" / "x").mkdir(parents=True)
    (outputs / ".sweep" / "x" / "config.yaml").write_text("{}")
    (outputs / "notes").mkdir()
    assert set(find([outputs], [])) == {first, second} == set(find([outputs, first, outputs / "box-kite"], []))


def test_a_directory_with_only_half_a_run_is_found_and_named(make_run: MakeRun, outputs: Path) -> None:
    run = make_run("red-kite", 1)
    (run / "status.json").unlink()
    assert find([outputs], []) == [run]


def test_links_to_runs_are_followed_once(make_run: MakeRun, outputs: Path, tmp_path: Path) -> None:
    run = make_run("red-kite", 1)
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
    make_run("red-kite", 1)
    scan = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("red-kite"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    problems: list[Problem] = []
    assert find([outputs], problems) == []
    assert [(problem.path.name, problem.reason) for problem in problems] == [
        ("red-kite", "cannot be listed: Permission denied")
    ]


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a directory"):
        find([tmp_path / "nowhere"], [])


def test_numbers_in_names_sort_as_numbers() -> None:
    names = ["dirac-w1-10", "dirac-w1-2", "flow-k32", "flow-k8"]
    assert sorted(names, key=natural) == ["dirac-w1-2", "dirac-w1-10", "flow-k8", "flow-k32"]
