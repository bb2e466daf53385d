"""An ensemble: what it writes is what each of its runs writes alone."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genbench import ensemble
from genbench.compose import configuration
from genbench.engine.trainer import Trainer
from genbench.tasks.density import Density
from genbench.tasks.flow_ensemble import FlowEnsemble
from genbench.tasks.plane import PlaneTask

NAMES = ("flow-arcs-samples-k2", "flow-sine-samples-k8", "flow-arcs-density-k2", "flow-sine-density-k8")
SHORT = ("trainer.max_steps=40", "trainer.evaluate_every=20", "trainer.log_every=10", "device=cpu")
SUITE = ("experiment=flow-toy-suite", f"ensemble.experiments=[{','.join(NAMES)}]", "ensemble.replicas=2", *SHORT)

TWO = "ensemble.experiments=[flow-arcs-samples-k2,flow-arcs-density-k2]"

pytestmark = pytest.mark.usefixtures("tiny_planes")


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ensemble lies that several tests compare with."""
    return tmp_path_factory.mktemp("templates")


@pytest.fixture
def whole(genbench: Callable[..., int], undrawn: None, templates: Path) -> Path:
    """An ensemble that nothing disturbed."""
    if not (templates / "whole").exists():
        assert genbench(*SUITE, f"output_root={templates / 'whole'}") == 0
    return templates / "whole"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of so short a run's time."""
    monkeypatch.setattr(PlaneTask, "figures", lambda *arguments: {})


def directories(root: Path) -> dict[tuple[str, int], Path]:
    """(experiment, seed) → run directory."""
    found = {}
    for path in root.glob("*/*/summary.json"):
        row = json.loads(path.read_text())
        found[row["name"], row["seed"]] = path.parent
    return found


def logged(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "time"} for row in rows]


def state(run: Path) -> dict[str, Any]:
    """The newest checkpoint."""
    return torch.load(max((run / "checkpoints").glob("*.pt")), weights_only=True)


def assert_close(found: list[dict[str, Any]], expected: list[dict[str, Any]], relative: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one | {"value": 0} == other | {"value": 0}
        assert one["value"] == pytest.approx(other["value"], rel=relative, abs=relative), other


def status(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text())


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM to the training that gets to this step."""
    between_steps = Trainer.between_steps

    def stopped(trainer: Trainer) -> bool:
        if trainer.progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return between_steps(trainer)

    monkeypatch.setattr(Trainer, "between_steps", stopped)


def test_its_runs_are_what_they_would_be_alone(genbench: Callable[..., int], tmp_path: Path) -> None:
    """Directories of the same name with the same files, and in them the same numbers, but for rounding."""
    assert genbench(*SUITE) == 0
    for name in NAMES:
        assert genbench(f"experiment={name}", "seed=2", "output_root=alone", *SHORT) == 0
    found, alone = directories(tmp_path / "outputs"), directories(tmp_path / "alone")
    assert found.keys() == {(name, seed) for name in NAMES for seed in (1, 2)}
    for (name, seed), expected in alone.items():
        run = found[name, seed]
        assert run.relative_to(tmp_path / "outputs") == expected.relative_to(tmp_path / "alone")
        files = [
            sorted(str(path.relative_to(where)) for path in where.rglob("*") if "events." not in path.name)
            for where in (run, expected)
        ]
        assert files[0] == files[1]
        assert_close(logged(run), logged(expected), 1e-5)
        summaries = [json.loads((where / "summary.json").read_text()) for where in (run, expected)]
        assert summaries[0].keys() == summaries[1].keys()
        assert [row["verdict"] for row in summaries[0]["reference"]] == [
            row["verdict"] for row in summaries[1]["reference"]
        ]
        assert summaries[0]["command"].startswith(f"genbench experiment={name} trainer.max_steps=40")
        assert summaries[0]["command"].endswith("seed=2")
        states = [state(where) for where in (run, expected)]
        assert torch.equal(states[0]["batches"]["generator"], states[1]["batches"]["generator"])
        assert states[0]["batches"]["position"] == states[1]["batches"]["position"]
        for key, value in states[1]["task"]["model"].items():
            torch.testing.assert_close(states[0]["task"]["model"][key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("undrawn")
def test_what_is_done_is_left_alone(
    genbench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: Path
) -> None:
    shutil.copytree(whole, tmp_path / "outputs")
    runs = directories(tmp_path / "outputs")
    again = runs.pop(("flow-sine-density-k8", 2))
    before, expected = {run: (run / "summary.json").stat().st_mtime_ns for run in runs.values()}, logged(again)
    for path in sorted(again.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    capsys.readouterr()
    assert genbench(*SUITE) == 0
    printed = capsys.readouterr().out
    assert "8 of 8 runs done" in printed and "7 were done before" in printed
    assert {run: (run / "summary.json").stat().st_mtime_ns for run in runs.values()} == before
    assert_close(logged(again), expected, 1e-5)
    assert genbench(*SUITE) == 0
    assert "8 were done before" in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
def test_stopped_and_resumed_together_and_one_of_them_alone(
    genbench: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    whole: Path,
) -> None:
    """A signal leaves all of them to go on from where they were: one goes on alone, the others catch up with one
    that had got further alone, and every number is that of an undisturbed ensemble."""
    with monkeypatch.context() as patch:
        stop_at(10, patch)
        assert genbench(*SUITE) == 143
    runs = directories(tmp_path / "outputs")
    assert len(runs) == 8
    for run in runs.values():
        assert (status(run)["status"], status(run)["step"]) == ("interrupted", 10)
        assert state(run)["progress"]["step"] == 10
    assert "the same command goes on with all of flow-toy-suite" in capsys.readouterr().err
    assert genbench("experiment=flow-arcs-density-k2", "seed=2", *SHORT) == 0
    with monkeypatch.context() as patch:
        stop_at(30, patch)
        assert genbench("experiment=flow-sine-samples-k8", *SHORT) == 143
    assert status(runs["flow-sine-samples-k8", 1])["step"] == 30
    joined: list[int] = []
    form = FlowEnsemble.__init__

    def watched(together: FlowEnsemble, tasks: Any, *more: Any) -> None:
        joined.append(len(tasks))
        form(together, tasks, *more)

    monkeypatch.setattr(FlowEnsemble, "__init__", watched)
    assert genbench(*SUITE) == 0
    assert joined == [6, 7]  # one is done, one is ahead
    for key, expected in directories(whole).items():
        assert status(runs[key])["status"] == "done"
        assert_close(logged(runs[key]), logged(expected), 1e-5)


@pytest.mark.usefixtures("undrawn")
def test_a_signal_within_a_stretch_of_steps(
    genbench: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    """Resumed in the same company, not a bit is different."""
    step, count = FlowEnsemble.training_step, 0

    def stopped(together: FlowEnsemble, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal count
        count += 1
        if count == 17:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(together, batch)

    with monkeypatch.context() as patch:
        patch.setattr(FlowEnsemble, "training_step", stopped)
        assert genbench(*SUITE) == 143
    assert [status(run)["step"] for run in directories(tmp_path / "outputs").values()] == [17] * 8
    assert genbench(*SUITE) == 0
    runs = directories(tmp_path / "outputs")
    for key, expected in directories(whole).items():
        assert logged(runs[key]) == logged(expected)


@pytest.mark.usefixtures("undrawn")
def test_one_that_diverges(
    genbench: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    whole: Path,
) -> None:
    """It ends, the others do not mind."""
    evaluate = Density.evaluate

    def broken(task: Density, split: str) -> Any:
        if task.target.name == "sine" and task.seed == 2 and task.optimizer.state:  # once it has been trained
            with torch.no_grad():
                task.model.bijection.w.fill_(math.nan)
        return evaluate(task, split)

    monkeypatch.setattr(Density, "evaluate", broken)
    capsys.readouterr()
    assert genbench(*SUITE) == 3
    assert "7 of 8 runs done" in capsys.readouterr().out
    runs = directories(tmp_path / "outputs")
    for key, expected in directories(whole).items():
        row = status(runs[key])
        if key == ("flow-sine-samples-k8", 2):
            assert (row["status"], row["step"], row["error"]) == ("diverged", 20, "valid/nll is nan at step 20")
            continue
        assert row["status"] == "done"
        assert_close(logged(runs[key]), logged(expected), 1e-5)


@pytest.mark.usefixtures("undrawn")
def test_an_error_leaves_all_to_go_on(
    genbench: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FlowEnsemble, "prepare_step", lambda together: 1 / 0)
        assert genbench(*SUITE) == 1
    runs = directories(tmp_path / "outputs").values()
    assert len(runs) == 8
    for run in runs:
        assert status(run)["status"] == "failed"
        assert "ZeroDivisionError" in status(run)["error"]
    assert genbench(*SUITE) == 0


@pytest.mark.usefixtures("undrawn")
def test_the_seconds_of_an_ensemble_are_shared_out(genbench: Callable[..., int], tmp_path: Path) -> None:
    begin = time.perf_counter()
    assert genbench(*SUITE, "trainer.evaluate_every=40") == 0
    passed = time.perf_counter() - begin
    rows = [json.loads((run / "summary.json").read_text()) for run in directories(tmp_path / "outputs").values()]
    (training,) = {row["training_seconds"] for row in rows}
    assert len(rows) == 8
    assert 8 * training <= sum(row["wall_seconds"] for row in rows) <= passed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ensemble.experiments=[]",), "at least one"),
        (("ensemble.experiments=[flow-arcs-samples-k2,flow-arcs-samples-k2]",), "each experiment once"),
        (("ensemble.experiments=[flow-arcs-sample-k2]",), "did you mean"),
        (("ensemble.experiments=[flow-toy-suite]",), "flow-toy-suite is an ensemble itself"),
        (("ensemble.experiments=[vae-mnist5k]",), "an ensemble is of flows in the plane"),
        (("ensemble.experiments=[flow-arcs-samples-k2,dirac-w1-1]",), "differ in trainer."),
        (("ensemble.replicas=0",), "ensemble.replicas must be ≥ 1"),
        (("ensemble.replicas=2", "seed=4294967295"), "the last seed would be above"),
        ((TWO, "loss=nll"), "task=energy cannot use this loss"),
        ((TWO, "optimizer.max_norm=1"), "set optimizer.max_norm=null"),
        ((TWO, "model.direction=base to data"), "goes through inverses"),
        ((TWO, "dataset.target=checkerboard"), "no finite energy"),
    ],
)
def test_bad_input(
    genbench: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    assert genbench("experiment=flow-toy-suite", *words) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "outputs").exists()


def test_one_graph_is_compiled_for_all_or_for_none(
    genbench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine" / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    header = "# @package _global_\ndefaults: [flow-arcs-density-k2, _self_]\n"
    mine.write_text(f"{header}name: mine\ntask: {{compile: true}}\n", encoding="utf-8")
    pair = "ensemble.experiments=[flow-arcs-samples-k2,mine]"
    words = ("--config-dir=mine", "experiment=flow-toy-suite", pair, *SHORT)
    assert genbench(*words) == 2
    assert "differ in task.compile: false in flow-arcs-samples-k2, true in mine" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()
    assert genbench(*words, "task.compile=false", "trainer.max_steps=2") == 0


def test_all_flows_of_the_report() -> None:
    words = ["trainer.max_steps=7", "experiment=flow-toy-suite", "seed=5"]
    found = ensemble.members(configuration(*words), words)
    assert len({(member.config.name, member.config.seed) for member in found}) == len(found) == 12 * 4
    for member in found[3::17]:
        assert configuration(*member.words) == member.config
