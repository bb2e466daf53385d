"""What a command says at the end of its one run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from genbench import compose
from genbench.commands import report
from genbench.ending import show
from genbench.outcome import Outcome

Genbench = Callable[..., int]
QUICK = ("experiment=dirac-w1-3", "trainer.max_steps=60", "trainer.evaluate_every=60")


@pytest.fixture
def told(genbench: Genbench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a short run says when it is over, on 60 columns."""
    monkeypatch.setenv("COLUMNS", "60")
    assert genbench(*QUICK) == 0
    out = capsys.readouterr().out
    return out[out.index(": done in") :].splitlines()


def test_the_table_holds_what_the_summary_holds(told: list[str], tmp_path: Path) -> None:
    (path,) = (tmp_path / "outputs" / "dirac-w1-3").glob("*/summary.json")
    modulus = json.loads(path.read_text())["metrics"]["eval/multiplier_modulus"]
    (row,) = (line for line in told if line.startswith("modulus"))
    assert row.split()[-4:] == [f"{modulus['final']['value']:.7f}", f"{modulus['truth']:.7f}", "closed", "form"]
    table = told[: next(k for k, line in enumerate(told) if line.startswith("picture"))]
    assert max(map(len, table)) <= 60
    assert "verdict" not in "".join(table)  # nothing was published


def test_the_next_commands_work_as_they_are_written(
    told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    titles = ("picture", "three seeds", "report")
    lines = {title: line[13:] for title in titles for line in told if line[:13].strip() == title}
    assert (tmp_path / lines["picture"]).is_file()
    program, *words = shlex.split(lines["three seeds"])
    assert (program, words[0]) == ("genbench", "-m")
    assert [request.config.seed for request in compose.requests(words[1:], multirun=True)] == [1, 2, 3]
    program, *words = shlex.split(lines["report"])
    assert program == "genbench-report"
    report.main(words)
    assert capsys.readouterr().out.startswith("1 of 1 runs")


def test_a_finished_run_says_it_again_and_jobs_of_a_sweep_do_not(
    genbench: Genbench, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert genbench(*QUICK) == 0
    out = capsys.readouterr().out
    assert "is done already" in out
    assert out.splitlines()[-len(told) + 1 :] == told[1:]
    assert genbench("-m", *QUICK, "seed=1,2") == 0
    out = capsys.readouterr().out
    assert "[2/2] seed=2" in out
    assert "three seeds" not in out
    assert "sweep: 2 of 2 jobs done" in out


def test_published_values_come_first_each_with_its_verdict(
    told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (tmp_path / "outputs" / "dirac-w1-3").glob("*/summary.json")
    summary = json.loads(path.read_text())
    distance = summary["metrics"]["eval/distance"]
    distance["final"]["value"], distance["standard_error"] = 0.25, 0.0078125
    row = {"metric": "eval/distance", "measured": 0.25, "better": "lower", "tolerance": 0.0, "at": "final"}
    summary["reference"] = [
        row | {"value": 0.125, "source": "one paper", "verdict": "missed", "note": "Of [larger] games."},
        row | {"value": 0.5, "source": "another", "verdict": "reached", "note": "Nobody needs this."},
        row | {"value": 0.5, "source": "a third", "verdict": "other protocol", "note": "Nor this."},
    ]
    path.write_text(json.dumps(summary))
    monkeypatch.setenv("COLUMNS", "120")
    show(Outcome(path.parent, "done", 0), QUICK)
    title, first, second, third, *others = capsys.readouterr().out.splitlines()[1:]
    assert title.split() == ["measured", "±", "s.e.", "published", "source", "verdict"]
    assert first.split("  ")[0].startswith("distance to the equilibrium")
    assert first.split()[4:] == ["0.25", "±", "0.00781", "0.125", "one", "paper", "✗", "missed", "(+0.125)"]
    assert second.split()[4:] == ["0.25", "±", "0.00781", "0.5", "another", "✓", "reached", "(−0.25)"]
    assert third.split()[4:] == ["0.25", "±", "0.00781", "0.5", "a", "third", "other", "protocol"], "no difference"
    assert "Of [larger] games." in others
    assert not any("this." in line for line in others)


def test_nothing_is_said_of_a_job_that_did_not_end_its_run(
    told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = (tmp_path / "outputs" / "dirac-w1-3").iterdir()
    capsys.readouterr()
    for directory, status in ((run, "failed"), (run, "locked"), (tmp_path, "done"), (Path("/dev/null"), "failed")):
        show(Outcome(directory, status, 1), QUICK)
    assert capsys.readouterr().out == ""
    show(Outcome(run, "done", 0), QUICK)
    assert capsys.readouterr().out != ""


def test_the_next_commands_find_the_user_s_own_experiments(
    genbench: Genbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "class room" / "experiment"
    own.mkdir(parents=True)
    (own / "exercise.yaml").write_text("# @package _global_\ndefaults: [dirac-w1-3, _self_]\nname: exercise\n")
    assert genbench("--config-dir", "class room", "experiment=exercise", "trainer.max_steps=2") == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("three seeds"))
    program, *words = shlex.split(line.removeprefix("three seeds"))
    assert program == "genbench"
    compose.add_search_path()
    assert genbench(*words, "trainer.max_steps=2") == 0
    assert "sweep: 3 of 3 jobs done" in capsys.readouterr().out
