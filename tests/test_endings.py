"""However a command ends, it says so in a line, and nothing is lost."""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from genbench import compose, jobs, run, sweeps
from genbench.commands import evaluate, figures, pack, push, report
from genbench.engine.trainer import Trainer
from genbench.errors import ConfigError
from genbench.output import command

Run = Callable[..., int]
WORDS = ("experiment=divergence-w1", "trainer.max_steps=12", "trainer.log_every=4", "trainer.evaluate_every=4")


def status(root: Path) -> str | None:
    (path,) = root.glob("outputs/*/*/status.json")
    return str(json.loads(path.read_text())["status"])


PLACES = ("_log", "_evaluate", "_draw", "save")
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


@pytest.mark.parametrize(("signum", "place"), list(zip(SIGNALS, itertools.cycle(PLACES), strict=False)))
def test_signals_save_and_say_so(
    genbench: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    signum: int,
    place: str,
) -> None:
    method = getattr(Trainer, place)

    def interrupted(trainer: Trainer, *arguments: Any) -> None:
        method(trainer, *arguments)
        if trainer.progress.step == 4 or place == "_draw":
            os.kill(os.getpid(), signum)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, place, interrupted)
        assert genbench(*WORDS) == 128 + signum
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"interrupted by {signal.Signals(signum).name} at step" in said
    assert status(tmp_path) == "interrupted"
    assert genbench(*WORDS) == 0
    assert status(tmp_path) == "done"


@pytest.mark.parametrize(
    ("place", "signum"),
    [
        # No run is going on in the first and the last: SIGTERM ends their process as it does any other.
        ((compose, "launch"), signal.SIGINT),
        ((run, "ready_task"), signal.SIGINT),
        ((run, "ready_task"), signal.SIGTERM),
        ((run, "draw_curves"), signal.SIGINT),
        ((run, "draw_curves"), signal.SIGTERM),
        ((jobs, "gc"), signal.SIGINT),
    ],
)
def test_a_signal_outside_training_is_a_line(
    genbench: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: tuple[Any, str],
    signum: int,
) -> None:
    def interrupted(*_: Any) -> None:
        os.kill(os.getpid(), signum)

    with monkeypatch.context() as patch:
        patch.setattr(
            *place,
            SimpleNamespace(freeze=gc.freeze, collect=interrupted, unfreeze=gc.unfreeze)
            if place[1] == "gc"
            else interrupted,
        )
        assert genbench(*WORDS) == 128 + signum
    said = capsys.readouterr().err
    assert "interrupted" in said
    assert said.count("\n") == 1
    assert genbench(*WORDS) == 0


def test_ctrl_c_twice_ends_at_once(
    genbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def twice(trainer: Trainer) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_log", twice)
        assert genbench(*WORDS) == 130
    assert capsys.readouterr().err == "genbench: interrupted\n"
    assert genbench(*WORDS) == 0


@pytest.mark.parametrize(
    ("words", "stream"),
    [
        (("genbench.train", *WORDS), "stdout"),
        (("genbench.train", "--help"), "stdout"),
        (("genbench.train", "experiment=nonsense"), "stderr"),
        (("genbench.commands.figures", "planar-maps", "--out", "maps.png"), "stdout"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)
def test_nobody_has_to_read_what_is_printed(
    tmp_path: Path, data_root: Path, words: tuple[str, ...], stream: str
) -> None:
    """`genbench … | head -1`: the reader is gone before anything is written."""
    end, gone = os.pipe()
    os.close(end)
    expected = 2 if "experiment=nonsense" in words else 0
    environment = os.environ | {"GENBENCH_DATA": str(data_root)}
    other = {"stdout": "stderr", "stderr": "stdout"}[stream]
    process = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        env=environment,
        check=False,
        **{stream: gone, other: subprocess.PIPE},  # type: ignore[call-overload]
    )
    os.close(gone)
    told = getattr(process, other).decode()
    assert process.returncode == expected, told
    assert "BrokenPipe" not in told
    if "experiment=divergence-w1" in words:
        assert status(tmp_path) == "done"


@pytest.mark.parametrize(
    ("name", "main", "words", "place"),
    [
        ("genbench-evaluate", evaluate.main, ["outputs"], (evaluate, "_runs")),
        ("genbench-figures", figures.main, ["planar-maps"], (figures, "_planar_maps")),
        ("genbench-pack", pack.main, ["outputs", "--out", "packed"], (pack, "LoadedRun")),
        ("genbench-push", push.main, ["mlflow", "outputs"], (push, "_push")),
        ("genbench-report", report.main, [], (report, "_report")),
    ],
)
def test_every_command_takes_ctrl_c(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    main: Callable[..., None],
    words: list[str],
    place: tuple[Any, str],
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*place, interrupted)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 130
    assert capsys.readouterr().err == f"{name}: interrupted\n"


def test_a_full_disk_is_told_by_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, command("genbench-report"):
        Path("/dev/full").write_text("x")
    assert stop.value.code == 1
    assert "genbench-report: No space left on device\n  free some space" in capsys.readouterr().err


def test_finished_jobs_let_go_of_their_networks(genbench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    networks: list[weakref.ref[Any]] = []
    build = run.ready_task

    def remembered(*arguments: Any) -> Any:
        assert [network for network in networks if network()] == []
        task = build(*arguments)
        networks.append(weakref.ref(task.parts.model))
        return task

    monkeypatch.setattr(run, "ready_task", remembered)
    monkeypatch.setattr(sweeps, "show", lambda directories: None)
    gc.disable()  # what Python would collect some time
    try:
        assert genbench("-m", "experiment=divergence-w1,dirac-jsd-8,vae-mnist5k", "trainer.max_steps=1") == 0
    finally:
        gc.enable()
    assert len(networks) == 3


def test_a_job_looks_for_garbage_among_what_it_made_alone() -> None:
    """A collection of all that PyTorch has made takes longer than a small job."""
    there: list[int] = []

    def configure() -> Any:
        there.append(len(gc.get_objects()))  # without those that are set aside
        raise ConfigError("enough")

    before = len(gc.get_objects())
    assert jobs.do(configure).status == "failed"
    assert there[0] < 0.1 * before
    assert gc.get_freeze_count() == 0
    assert len(gc.get_objects()) > 0.5 * before
