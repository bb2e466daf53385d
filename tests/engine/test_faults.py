"""Whatever is damaged, lost, foreign or full costs some steps at most, and changes no number."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from shared import assert_same
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from benchmarks.faults import flip, outcome
from genbench import provenance
from genbench.engine import checkpoint, events, rundir
from genbench.engine import device as devices
from genbench.engine.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny_planes", "tiny_images", "few_digits")

INTERVALS = ("trainer.max_steps=40", "trainer.log_every=4", "trainer.evaluate_every=8", "trainer.checkpoint_every=10")
SMALL_PIXELCNN = ("model.channels=2", "model.blocks=1", "optimizer.milestones=[]")
WORDS = {
    "dirac-jsd-8": INTERVALS,
    "divergence-w1": INTERVALS,
    "flow-arcs-density-k2": INTERVALS,
    "pixelcnn-mnist5k": (*INTERVALS, *SMALL_PIXELCNN, "trainer.batch_size=4", "trainer.epochs=null"),
}
LIGHT = [name for name in WORDS if name != "pixelcnn-mnist5k"]

Run = Callable[..., int]


def run_of(root: Path) -> Path:
    (run,) = root.glob("*/*")
    return run


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`stop_at(step)`: the next run gets a SIGTERM when it logs at that step; with 0, none does."""
    original, when = Trainer._log, [0]

    def log(trainer: Trainer) -> None:
        original(trainer)
        if trainer.progress.step == when[0]:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_log", log)
    return lambda step: when.__setitem__(0, step)


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that several tests start from: done in `whole`, stopped at step 24 in `halfway`."""
    return tmp_path_factory.mktemp("templates")


@pytest.fixture
def whole(genbench: Run, templates: Path) -> Callable[[str], Path]:
    """`whole(experiment)` is where an undisturbed run of it lies."""

    def trained(experiment: str) -> Path:
        root = templates / "whole" / experiment
        if not root.exists():
            assert genbench(f"experiment={experiment}", *WORDS[experiment], f"output_root={root}") == 0
        return root

    return trained


@pytest.fixture
def halfway(
    genbench: Run, tmp_path: Path, templates: Path, stop_at: Callable[[int], None], whole: Callable[[str], Path]
) -> Callable[[str], Callable[[], None]]:
    """`halfway(experiment)` leaves a run stopped at step 24 in `runs`; what it returns ends it and compares."""

    def begin(experiment: str) -> Callable[[], None]:
        words = (f"experiment={experiment}", *WORDS[experiment])
        root = templates / "halfway" / experiment
        if not root.exists():
            stop_at(24)
            assert genbench(*words, f"output_root={root}") == 143
            stop_at(0)
        shutil.copytree(root, tmp_path / "runs")

        def end() -> None:
            assert genbench(*words, "output_root=runs") == 0
            assert_same(outcome(run_of(tmp_path / "runs")), outcome(run_of(whole(experiment))))

        return end

    return begin


def over_experiments(cases: Iterable[str]) -> list[tuple[str, str]]:
    """Each case with another of the light experiments."""
    return list(zip(cases, itertools.cycle(LIGHT), strict=False))


def checkpoints(run: Path) -> list[Path]:
    return checkpoint.newest_first(run / "checkpoints")


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def overwrite_weights(state: dict[str, Any]) -> None:
    """As far as it goes before something is missing."""
    for value in state["task"].values():
        for tensor in value.values() if isinstance(value, dict) else ():
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                tensor.fill_(7.0)
    del state["batches"]


# A1: measuring and drawing change nothing


@pytest.mark.parametrize("experiment", WORDS)
def test_how_often_a_run_is_measured_does_not_change_it(genbench: Run, tmp_path: Path, experiment: str) -> None:
    random = ("dataset=binmnist-dynamic",) if experiment.startswith("pixelcnn") else ()
    found = []
    for every in (3, 7):
        words = (
            f"experiment={experiment}",
            *WORDS[experiment],
            *random,
            "trainer.max_steps=10",
            "trainer.log_every=1",
        )
        assert genbench(*words, f"trainer.evaluate_every={every}", f"output_root=every{every}") == 0
        result = outcome(run_of(tmp_path / f"every{every}"))
        trained = [row for row in result["rows"] if row[1].startswith("train/")]
        found.append((trained, {key: value for key, value in result["task"].items() if key != "samples"}))
    assert len(found[0][0]) >= 10
    assert_same(*found)


@pytest.mark.parametrize("experiment", WORDS)
def test_a_stopped_run_goes_on_exactly(halfway: Callable[[str], Callable[[], None]], experiment: str) -> None:
    halfway(experiment)()


@pytest.mark.parametrize("part", ["before", "python", "numpy", "after"])
def test_a_signal_while_generators_are_restored_changes_nothing(
    genbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Callable[[str], Path], part: str
) -> None:
    """After the second evaluation, before one or another part of their state is set."""
    restore, calls = devices.set_rng_state, 0

    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def interrupted(state: Any, device: torch.device) -> None:
        nonlocal calls
        calls += 1
        with pytest.MonkeyPatch.context() as patch:
            owner, name = {"python": (devices.random, "setstate")}.get(part, (devices.np.random, "set_state"))
            original = getattr(owner, name)
            if calls == 6 and part in ("python", "numpy"):
                patch.setattr(owner, name, lambda state: (stop(), original(state)))
            if calls == 6 and part == "before":
                stop()
            restore(state, device)
            if calls == 6 and part == "after":
                stop()

    words = ("experiment=divergence-w1", *WORDS["divergence-w1"], "output_root=stopped")
    with monkeypatch.context() as patch:
        patch.setattr(devices, "set_rng_state", interrupted)
        assert genbench(*words) == 143
    assert calls >= 6
    assert genbench(*words) == 0
    assert_same(outcome(run_of(tmp_path / "stopped")), outcome(run_of(whole("divergence-w1"))))


# A2, B11: another run's, another code's, unusable checkpoints

SPOILT: dict[str, Callable[[Path], object]] = {
    "bit flipped": flip,
    "cut": lambda path: os.truncate(path, 1000),
    "emptied": lambda path: os.truncate(path, 0),
    "other tensors": lambda path: torch.save({"weights": torch.ones(2)}, path),
    "missing part": lambda path: rewrite(path, lambda state: state.pop("meters")),
    "missing weights": lambda path: rewrite(path, lambda state: state["task"].popitem()),
    "other shapes": lambda path: rewrite(
        path, lambda state: state["rng"].__setitem__("torch", state["rng"]["torch"][:8])
    ),
    "half of it fits": lambda path: rewrite(path, overwrite_weights),
}


@pytest.mark.parametrize(("damage", "experiment"), over_experiments(SPOILT))
def test_an_unusable_checkpoint_costs_only_its_steps(
    halfway: Callable[[str], Callable[[], None]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    experiment: str,
    damage: str,
) -> None:
    end = halfway(experiment)
    newest, *_ = checkpoints(run_of(tmp_path / "runs"))
    SPOILT[damage](newest)
    end()
    said = capsys.readouterr().out
    assert said.count("going back to an older one") == 1
    assert "resumes from step 20" in said
    assert newest.with_suffix(".unusable").exists()


@pytest.mark.parametrize("damage", ["cut", "half of it fits"])
def test_without_a_good_checkpoint_a_run_starts_again(
    halfway: Callable[[str], Callable[[], None]], tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    end = halfway("divergence-w1")
    for path in checkpoints(run_of(tmp_path / "runs")):
        SPOILT[damage](path)
    end()
    assert "starting again from step 0" in capsys.readouterr().out


@pytest.mark.parametrize("experiment", LIGHT)
def test_another_run_s_checkpoint_is_refused(
    halfway: Callable[[str], Callable[[], None]],
    genbench: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    experiment: str,
) -> None:
    end = halfway(experiment)
    short = ("trainer.max_steps=30", "seed=2", "output_root=other")
    assert genbench(f"experiment={experiment}", *WORDS[experiment], *short) == 0
    foreign = checkpoints(run_of(tmp_path / "other"))[0]
    shutil.copy(foreign, run_of(tmp_path / "runs") / "checkpoints")
    end()
    assert f"{foreign.name} belongs to another run" in capsys.readouterr().out


def test_changed_code_is_said_and_recorded(
    halfway: Callable[[str], Callable[[], None]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end = halfway("divergence-w1")
    before = provenance._digest(frozenset({"genbench"}))
    monkeypatch.setattr(provenance, "_digest", lambda packages: "0badc0de")
    end()
    assert f"from step 24 on another code (was {before}, is 0badc0de)" in capsys.readouterr().out
    stretches = json.loads((run_of(tmp_path / "runs") / "summary.json").read_text())["stretches"]
    assert [(row["from"], row["code"]) for row in stretches] == [(0, before), (24, "0badc0de")]


def test_what_does_not_fit_changed_code_is_kept(
    halfway: Callable[[str], Callable[[], None]],
    genbench: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    halfway("divergence-w1")
    kept = checkpoints(run_of(tmp_path / "runs"))
    for path in kept:
        SPOILT["missing weights"](path)
    monkeypatch.setattr(provenance, "_digest", lambda packages: "0badc0de")
    assert genbench("experiment=divergence-w1", *WORDS["divergence-w1"], "output_root=runs") == 1
    assert "does not fit the code, which has changed since" in capsys.readouterr().err
    assert checkpoints(run_of(tmp_path / "runs")) == kept


def test_the_code_of_a_plug_in_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foreign.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("foreign")
    packages = frozenset({"genbench", "foreign"})
    own, first = provenance._digest(frozenset({"genbench"})), provenance._digest(packages)
    (tmp_path / "foreign.py").write_text("x = 2")
    provenance._digest.cache_clear()
    assert len({own, first, provenance._digest(packages)}) == 3
    provenance._digest.cache_clear()


def test_the_code_of_a_namespace_package_is_that_of_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spread" / "part").mkdir(parents=True)
    for name in ("__init__", "inner"):
        (tmp_path / "spread" / "part" / f"{name}.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("spread.part.inner")
    assert provenance._package("spread.part.inner") == "spread.part"
    assert provenance._package("genbench.models.vae") == "genbench"
    assert len(provenance._digest(frozenset({"genbench", "spread.part"}))) == 8


# A4: logs cut short


def cut_in_a_line(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 + 7])


LOST: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda path: os.truncate(path, 0),
    "cut at a line": lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[:5])),
    "cut in a line": cut_in_a_line,
    "bit flipped": flip,
    "written to by another": lambda path: path.write_text(path.read_text() + "not JSON\n"),
}


@pytest.mark.parametrize(("loss", "experiment"), over_experiments(LOST))
def test_lost_rows_are_restored(
    halfway: Callable[[str], Callable[[], None]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    experiment: str,
    loss: str,
) -> None:
    end = halfway(experiment)
    path = run_of(tmp_path / "runs") / "metrics.jsonl"
    LOST[loss](path)
    end()
    said = f"{path.relative_to(tmp_path)} is damaged; restored from the checkpoint" in capsys.readouterr().out
    assert said == (loss != "written to by another")


@pytest.mark.parametrize("loss", ["deleted", "emptied", "cut in a line", "bit flipped"])
def test_lost_curves_are_drawn_again(
    halfway: Callable[[str], Callable[[], None]], tmp_path: Path, capsys: pytest.CaptureFixture[str], loss: str
) -> None:
    end = halfway("dirac-jsd-8")
    (path,) = run_of(tmp_path / "runs").glob("events.*")
    LOST[loss](path)
    end()
    assert "their curves are restored" in capsys.readouterr().out


def test_a_clock_that_was_set_back_keeps_the_order(
    halfway: Callable[[str], Callable[[], None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = halfway("divergence-w1")
    monkeypatch.setattr(events.time, "time", lambda: 1.0)
    end()
    files = sorted(run_of(tmp_path / "runs").glob("events.*"))
    assert len(files) == 2
    times = [event.wall_time for path in files for event in EventFileLoader(str(path)).Load()]
    assert times == sorted(times)
    assert times[0] > 1e9


# B13: a full disk, a damaged summary


@pytest.mark.parametrize(("number", "experiment"), list(zip((1, 4, 7, 10), itertools.cycle(LIGHT), strict=False)))
def test_a_full_disk_is_one_message_and_loses_nothing(
    genbench: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    whole: Callable[[str], Path],
    experiment: str,
    number: int,
) -> None:
    """From the file of this number on, nothing can be written."""
    words = (f"experiment={experiment}", *WORDS[experiment])
    expected = outcome(run_of(whole(experiment)))
    replace, written = Path.replace, 0

    def full(path: Path, target: Path) -> Path:
        nonlocal written
        written += 1
        if written >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return replace(path, target)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert genbench(*words, "output_root=runs") == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.startswith("genbench: ")
    assert "No space left on device\n  free some space and repeat the command; a run goes on" in said
    assert list((tmp_path / "runs").rglob("*.part")) == []
    for path in (tmp_path / "runs").glob("*/*/status.json"):
        assert "Traceback" not in path.read_text()
    assert genbench(*words, "output_root=runs") == 0
    assert_same(outcome(run_of(tmp_path / "runs")), expected)


@pytest.mark.parametrize("damage", ["deleted", "emptied", "cut in a line"])
@pytest.mark.parametrize("file", ["summary.json", "status.json"])
def test_what_a_done_run_says_of_itself_is_written_again(
    genbench: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    whole: Callable[[str], Path],
    file: str,
    damage: str,
) -> None:
    words = ("experiment=divergence-w1", *WORDS["divergence-w1"], "output_root=runs")
    shutil.copytree(whole("divergence-w1"), tmp_path / "runs")
    run = run_of(tmp_path / "runs")
    before = outcome(run_of(tmp_path / "runs"))
    LOST[damage](run / file)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.delattr(Trainer, "_train")  # nothing is trained again
        assert genbench(*words) == 0
    assert_same(outcome(run_of(tmp_path / "runs")), before)
    assert rundir.RunDirectory(run).status == "done"
    said = capsys.readouterr().out.count("summary.json is damaged; the last checkpoint writes it again")
    assert said == (file == "summary.json")


# B15: file systems without locks


@pytest.mark.filterwarnings("ignore:flock not supported:UserWarning")  # filelock says what it does instead
@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.ENOSYS])
def test_where_files_cannot_be_locked_a_file_says_who_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        rundir.RunDirectory(tmp_path / "run"),
        pytest.raises(rundir.RunLocked, match=f"process {os.getpid()} on"),
        rundir.RunDirectory(tmp_path / "run"),
    ):
        pytest.fail("two at once")
    with rundir.RunDirectory(tmp_path / "run"):
        pass


def test_no_right_to_write_is_not_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr(rundir.FileLock, "acquire", refused)
    with pytest.raises(rundir.ConfigError, match=r"cannot be written to: .*Permission denied"):
        rundir.RunDirectory(tmp_path / "run").__enter__()
