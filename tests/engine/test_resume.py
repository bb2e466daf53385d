"""A run that is killed, stopped or damaged goes on as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import Forked
from shared import assert_same
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from genbench import registry
from genbench.compose import configuration
from genbench.engine.logbook import Logbook
from genbench.tasks.vae.draw import Variational
from genbench.train import main

# Small, and judged by few images: how well it does is no question here.
WORDS = [
    "experiment=vae-mnist5k",
    "trainer.epochs=2",
    "trainer.log_every=10",
    "trainer.checkpoint_every=25",
    "model.width=30",
    "task.importance_images=20",
]


def start(directory: Path, data_root: Path, *words: str, slow: bool = False) -> Forked:
    """With `slow`, there are seconds in which to disturb it after its 50th step."""

    def run() -> None:
        if slow:
            step, taken = Variational.training_step, itertools.count()
            Variational.training_step = lambda task, *batch: (
                time.sleep(0.05 if next(taken) > 50 else 0),
                step(task, *batch),
            )[1]
        main([*WORDS, *words])

    return Forked(run, directory, {"GENBENCH_DATA": str(data_root)})


def finish(directory: Path, data_root: Path, *words: str) -> str:
    process = start(directory, data_root, *words)
    assert process.wait() == 0, process.said
    return process.said


def run_of(directory: Path) -> Path:
    (run,) = (directory / "outputs" / "vae-mnist5k").iterdir()
    return run


def wait_for_step(directory: Path, step: int) -> None:
    """Until a checkpoint of at least `step` exists."""
    for _ in range(1200):
        steps = [int(path.stem.split("-")[1]) for path in directory.glob("outputs/*/*/checkpoints/step-*.pt")]
        if max(steps, default=-1) >= step:
            return
        time.sleep(0.05)
    pytest.fail("no checkpoint in a minute")


def final_state(directory: Path) -> dict[str, Any]:
    newest = max((run_of(directory) / "checkpoints").glob("*.pt"))
    return torch.load(newest, weights_only=True)


def rows(directory: Path) -> list[tuple[int, str, float]]:
    lines = (run_of(directory) / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["metric"], row["value"]) for row in map(json.loads, lines)]


def events(directory: Path) -> list[tuple[int, str]]:
    """(step, tag) of everything in the TensorBoard files, duplicates included."""
    found = []
    for path in sorted(run_of(directory).glob("events.*")):
        for event in EventFileLoader(str(path)).Load():
            found += [(event.step, value.tag) for value in event.summary.value]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed")
    finish(directory, data_root)
    return directory


def assert_equal_to(undisturbed: Path, directory: Path) -> None:
    expected, state = final_state(undisturbed), final_state(directory)
    for key in ("task", "batches", "rng", "meters", "done"):
        assert_same(state[key], expected[key], key)
    assert rows(directory) == rows(undisturbed)
    logged = events(directory)
    assert sorted(logged) == sorted(events(undisturbed))
    scalars = [entry for entry in logged if entry[1].startswith(("variational/", "best/", "figures/", "samples/"))]
    assert len(scalars) == len(set(scalars))
    assert json.loads((run_of(directory) / "status.json").read_text())["status"] == "done"


def test_a_killed_run_continues_bit_exactly(undisturbed: Path, tmp_path: Path, data_root: Path) -> None:
    process = start(tmp_path, data_root, slow=True)
    wait_for_step(tmp_path, 50)
    time.sleep(0.2)  # somewhere between two checkpoints
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert json.loads((run_of(tmp_path) / "status.json").read_text())["status"] == "running"
    assert "resumes from step" in finish(tmp_path, data_root)
    assert_equal_to(undisturbed, tmp_path)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_keeps_its_last_step(
    undisturbed: Path, tmp_path: Path, data_root: Path, signum: int, code: int
) -> None:
    process = start(tmp_path, data_root, slow=True)
    wait_for_step(tmp_path, 50)
    time.sleep(0.2)
    process.send(signum)
    assert process.wait() == code, process.said
    assert "Traceback" not in process.said
    status = json.loads((run_of(tmp_path) / "status.json").read_text())
    assert status["status"] == "interrupted"
    assert final_state(tmp_path)["progress"]["step"] == status["step"] > 50
    finish(tmp_path, data_root)
    assert_equal_to(undisturbed, tmp_path)


@pytest.mark.usefixtures("tiny_planes")
@pytest.mark.parametrize("experiment", ["flow-arcs-samples-k2", "flow-arcs-density-k2"])
def test_measurements_keep_their_meaning(
    genbench: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    """Stopped after the last evaluation: the resumed run measures nothing more, and knows what its numbers mean."""
    words = (f"experiment={experiment}", "trainer.max_steps=4", "trainer.evaluate_every=2")

    def metrics(root: str) -> dict[str, Any]:
        (path,) = (tmp_path / root).glob("*/*/summary.json")
        return {name: entry for name, entry in json.loads(path.read_text())["metrics"].items() if "protocol" in entry}

    assert genbench(*words, "output_root=whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(Logbook, "conclude", lambda logbook: os.kill(os.getpid(), signal.SIGTERM))
        assert genbench(*words, "output_root=parts") == 143
    (path,) = (tmp_path / "parts").glob("*/*/summary.json")
    assert "metrics" not in json.loads(path.read_text())
    with monkeypatch.context() as patch:
        patch.delattr(registry.lookup("task", configuration(*words).task["name"]), "evaluate")
        assert genbench(*words, "output_root=parts") == 0
    found = metrics("parts")
    assert found == metrics("whole")
    (headline, *_) = json.loads(path.read_text())["quantities"]
    assert {"final", "standard_error", "truth", "protocol"} <= found[headline["name"]].keys()
    assert found[headline["name"]]["protocol"]["dataset"] == "arcs"


def test_unless_it_is_said_otherwise_checkpoints_are_of_evaluations(
    tmp_path: Path, genbench: Callable[..., int]
) -> None:
    """Of every fourth one here: 334 are more than the 100 checkpoints that a run may take time for."""
    words = ("trainer.max_steps=1000", "trainer.evaluate_every=3", "trainer.checkpoint_every=null")
    assert genbench("experiment=dirac-w1-3", *words) == 0
    (directory,) = tmp_path.glob("outputs/*/*/checkpoints")
    assert [path.stem for path in sorted(directory.iterdir())] == ["step-000000996", "step-000001000"]


def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path: Path, data_root: Path) -> None:
    words = (
        "trainer.checkpoint_every=1",
        "trainer.log_every=1",
        "optimizer=sgd",
        "optimizer.lr=30",
        "deterministic=true",
    )
    process = start(tmp_path, data_root, *words)
    assert process.wait() == 3, process.said
    assert "Traceback" not in process.said
    run = run_of(tmp_path)
    assert json.loads((run / "status.json").read_text())["status"] == "diverged"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "diverged"
    state = final_state(tmp_path)
    assert state["progress"]["step"] < summary["step"]
    assert all(torch.isfinite(tensor).all() for tensor in state["task"]["model"].values())
