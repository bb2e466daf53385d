"""Sweeps: every job is known, whoever runs it and however it ends."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock
from hydra import compose as hydra_compose
from omegaconf import OmegaConf
from processes import Forked, killed_at_first, python

from genbench import compose, jobs
from genbench.commands import figures
from genbench.compose import Request, configuration
from genbench.engine.measurement import Quantity, objective_among
from genbench.engine.rundir import RunDirectory
from genbench.engine.trainer import Trainer
from genbench.errors import ConfigError
from genbench.launching import local, remains, slurm
from genbench.launching.remains import SweepJob
from genbench.launching.work import Home, perform
from genbench.numerals import number
from genbench.outcome import Outcome, objective
from genbench.report import reading
from genbench.report.studies import study_tables
from genbench.sweeps import common_directory
from genbench.tasks.divergence import Divergence

Run = Callable[..., int]

# Deterministic, so two launchers have equal numbers; one of the three diverges.
WORDS = ("experiment=dirac-w1-3", "trainer.threads=1", "regularizer.coefficient=0.1,1e12,0.2")


def finals(root: Path) -> dict[str, dict[str, Any]]:
    """Final values of all runs, by their hash."""
    found = {}
    for path in root.glob("*/*/summary.json"):
        summary = json.loads(path.read_text(encoding="utf-8"))
        values = {name: entry["final"]["value"] for name, entry in summary["metrics"].items()}
        found[path.parent.name.rpartition("-")[2]] = values
    return found


def test_jobs_that_are_one_run_are_drawn_once(genbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(Divergence, "sweep_figures", lambda runs: drawn.append(len(runs)) or {})
    words = ("experiment=divergence-w1", "trainer.max_steps=2", "dataset.theta=0.5,1", "trainer.log_every=1,2")
    assert genbench("-m", *words) == 0
    assert drawn == [2]


@pytest.mark.parametrize(
    "words",
    [
        ("experiment=vae-mnist5k", "seed=3", "optimizer.lr=1e-4", "model.width=9"),
        ("experiment=vae-mnist5k", "model.activation=relu", "optimizer=sgd", "optimizer.lr=0.1"),
        ("experiment=cifar10-w1-3", "optimizer.beta1=0.3", "regularizer=none", "trainer.precision=tf32"),
        ("experiment=dirac-jsd-1", "~optimizer.lr", "reference=[]"),
        ("experiment=dirac-jsd-1", "name='a name'", "data_root=${output_root}/data", "++seed=7"),
    ],
)
def test_what_is_composed_is_what_hydra_composes(words: Sequence[str]) -> None:
    """Although jobs that differ in values alone share a composition."""
    with compose.composer():
        for each in (words, (*words, "deterministic=true")):
            found = compose.composed(compose.Job(compose.parse(each)))
            expected = hydra_compose("train", overrides=list(each), return_hydra_config=True)
            for config in (found, expected):
                del config.hydra.overrides, config.hydra.job.override_dirname  # the words
            assert OmegaConf.to_container(found) == OmegaConf.to_container(expected)


def test_a_killed_job_is_named_and_the_others_go_on(
    genbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In processes of their own; the same command goes on with it, and the numbers are those of one process."""
    words = (*WORDS, "trainer.max_steps=600")
    command = ("genbench.train", "-m", *words, "hydra/launcher=local", "output_root=local")
    process = Forked(python("-m", *command), tmp_path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = [RunDirectory(path.parent).read_status() for path in tmp_path.glob("local/*/*0.2*/status.json")]
        if found and found[0].get("status") == "running" and found[0]["pid"] != process.pid:
            os.kill(found[0]["pid"], signal.SIGKILL)
            break
        time.sleep(0.01)
    assert process.wait() == 137, process.said
    said = process.said
    table = said[said.index("sweep: ") :]
    assert "1 of 3 jobs done, in local/dirac-w1-3" in table
    for value, status, reason in (
        ("0.1", "done", ""),
        ("1000000000000.0", "diverged", "step"),
        ("0.2", "killed", "by SIGKILL"),
    ):
        assert re.search(rf"^regularizer.coefficient={value} +{status} .*{reason}", table, re.M), table
    assert "[3/3]" in said  # lines say whose they are
    assert genbench("-m", *words, "hydra/launcher=local", "output_root=local") == 3
    assert genbench("-m", *words, "output_root=here") == 3
    assert finals(tmp_path / "local") == finals(tmp_path / "here")
    assert len(finals(tmp_path / "here")) == 3


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL], ids=lambda signum: signum.name)
def test_a_signal_ends_a_sweep_of_processes(
    signum: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the parent alone: its processes save, and nobody is left behind, even where it cannot tell them."""
    monkeypatch.chdir(tmp_path)
    words = ("experiment=dirac-w1-3", "seed=1,2,3", "trainer.max_steps=1000000", "hydra/launcher=local")
    process = Forked(python("-m", "genbench.train", "-m", *words, "hydra.launcher.processes=2"), tmp_path)
    deadline = time.monotonic() + 120
    rows: list[dict[str, Any]] = []
    while time.monotonic() < deadline and len(rows) < 2:
        rows = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/*/status.json")]
        time.sleep(0.05)
    process.send(signum)
    if signum == signal.SIGTERM:
        assert process.wait() == 143, process.said
        said = process.said
        assert len(re.findall(r"^seed=\d +interrupted", said, re.M)) == 2, said
        assert re.search(r"^seed=3 +not started", said, re.M)
    while time.monotonic() < deadline and any(Path("/proc", str(row["pid"])).exists() for row in rows):
        time.sleep(0.05)
    for row in rows:
        with pytest.raises(ProcessLookupError):
            os.kill(row["pid"], signal.SIGKILL)  # whatever should still be there
    assert {RunDirectory(path).status for path in tmp_path.glob("outputs/*/*/")} == {"interrupted"}


def test_a_process_sees_one_gpu_and_computes_with_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a job of hydra/launcher=local finds when it begins."""
    before = torch.get_num_threads()
    told: list[Any] = []

    def perform(*_: Any, **__: Any) -> Any:
        return os.environ.get("CUDA_VISIBLE_DEVICES"), torch.get_num_threads()

    monkeypatch.setattr(local, "perform", perform)
    monkeypatch.setattr(local, "_end_with_parent", lambda: None)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    sender: Any = SimpleNamespace(send=told.append)
    try:
        for threads, gpu in ((1, None), (3, "2")):
            local._work(Request(configuration("experiment=dirac-w1-3")), Home(Path()), threads, gpu, sender)
    finally:
        torch.set_num_threads(before)
    assert told == [("0,1,2", 1), ("2", 3)]


@pytest.mark.parametrize(
    ("processes", "jobs", "shares"), [(None, 3, (3, 2)), (2, 3, (2, 4)), (8, 8, (8, 1)), (None, 20, (8, 1))]
)
def test_cores_are_shared_out(
    processes: int | None, jobs: int, shares: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(local, "_Worker", idle_worker(lambda job, home, threads, gpu: seen.append(threads)))
    monkeypatch.setattr(local, "visible_gpus", list)
    monkeypatch.setattr(local, "_cores", lambda: 8)
    said: list[str] = []
    monkeypatch.setattr("builtins.print", lambda text: said.append(text))
    launch_locally(["cpu"] * jobs, processes)
    assert set(seen) == {shares[1]}
    assert said[0] == f"{jobs} jobs, {shares[0]} at a time, threads of each: {shares[1]}"


def test_equal_jobs_are_run_once(genbench: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("experiment=dirac-w1-3", "trainer.max_steps=2", "optimizer.lr=0.1,0.10")
    assert genbench("-m", *words) == 0
    said = capsys.readouterr().out
    assert "2 of 2 jobs done" in said
    assert "[2/2]" not in said
    assert len(list(tmp_path.glob("outputs/*/*/"))) == 1


def test_ctrl_c_ends_a_sweep_with_its_table(
    genbench: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = jobs.do

    def stopped(configure: Any, words: Sequence[str], checked: bool) -> Any:
        if "seed=2" in words:
            monkeypatch.setattr("genbench.run.ready_task", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        return done(configure, words, checked)

    monkeypatch.setattr(jobs, "do", stopped)
    assert genbench("-m", "experiment=dirac-w1-3", "trainer.max_steps=2", "seed=1,2,3") == 130
    table = capsys.readouterr().out
    for row in ("seed=1  done", "seed=2  interrupted", "seed=3  not started"):
        assert f"\n{row}" in table


def test_a_job_understands_words_where_they_were_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_root: Path
) -> None:
    """A worker of a cluster may start anywhere, with another environment."""
    typed, worker, own = tmp_path / "typed", tmp_path / "worker", tmp_path / "own" / "experiment"
    for directory in (typed, worker, own):
        directory.mkdir(parents=True)
    (own / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [dirac-w1-3]\nname: ${oc.env:MY_NAME}\n", encoding="utf-8"
    )
    monkeypatch.setenv("MY_NAME", "mine-7")
    monkeypatch.setenv("GENBENCH_DATA", str(data_root))
    monkeypatch.setenv("UNRELATED", "1")
    monkeypatch.chdir(typed)
    home = Home.here((f"file://{own.parent}",))
    assert set(home.environment) >= {"MY_NAME", "GENBENCH_DATA"}
    assert "UNRELATED" not in home.environment
    request = Request(configuration("experiment=dirac-w1-3", "trainer.max_steps=2"), ("experiment=dirac-w1-3",))
    monkeypatch.chdir(worker)
    monkeypatch.delenv("MY_NAME")
    try:
        assert perform(request, home).status == "done"
        assert Path.cwd() == typed
        assert os.environ["MY_NAME"] == "mine-7"
        assert configuration("experiment=mine").name == "mine-7"
    finally:
        compose.add_search_path()
    assert list(worker.iterdir()) == []
    assert [path.name for path in typed.iterdir()] == ["outputs"]


def test_a_directory_that_a_worker_does_not_have_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = Request(configuration("experiment=dirac-w1-3"))
    outcome = perform(request, Home(tmp_path / "nowhere"))
    assert (outcome.directory, outcome.exit_code) == (Path("outputs"), 2)
    assert "a directory that all machines share" in capsys.readouterr().err


def test_a_sweep_over_output_roots_ends_with_its_table_and_its_picture(
    genbench: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Relative and absolute ones; so do pictures of finished runs that are named in both ways."""
    roots = f"output_root=here/a,{tmp_path}/here/b"
    assert genbench("-m", "experiment=dirac-w1-1,dirac-w1-6", "trainer.max_steps=2", roots) == 0
    said = capsys.readouterr().out
    assert f"4 of 4 jobs done, in {tmp_path / 'here'}\n" in said
    assert f"picture      {tmp_path / 'here' / 'sweep-dirac-w1.png'}\n" in said
    figures.main(["sweep", "here/a/dirac-w1-1", f"{tmp_path}/here/a/dirac-w1-6"])
    assert (tmp_path / "here" / "a" / "sweep-dirac-w1.png").is_file()
    (tmp_path / "here" / "sweep-dirac-w1.png").unlink()
    figures.main(["sweep", "here/a/dirac-w1-1", "here/b/dirac-w1-6"])  # a pair, wherever they lie
    assert (tmp_path / "here" / "sweep-dirac-w1.png").is_file()


@pytest.mark.parametrize(
    ("paths", "common"),
    [(["a/b", "a/c"], "a"), (["a", "b"], "."), (["../a/b", "../a/c"], "../a"), (["/x/a", "/x/b"], "/x")],
)
def test_a_common_directory_is_named_as_the_others_are(paths: list[str], common: str) -> None:
    assert common_directory([Path(path) for path in paths]) == Path(common)


@pytest.mark.parametrize(
    ("row", "status", "code"),
    [
        ({"status": "running", "step": 4}, "killed", 137),
        ({"status": "interrupted", "step": 4, "signal": "SIGUSR2"}, "interrupted", 128 + signal.SIGUSR2),
        ({"status": "failed", "step": 4, "error": "no such luck\n  try again"}, "failed", 1),
        ({}, "not started", 1),
    ],
)
def test_a_directory_tells_how_its_run_ended(
    row: dict[str, Any], status: str, code: int, tmp_path: Path, data_root: Path
) -> None:
    request = Request(configuration("experiment=dirac-w1-3", f"output_root={tmp_path}", f"data_root={data_root}"))
    (directory,) = remains.directories(request)
    if row:
        directory.path.mkdir(parents=True)
        (directory.path / "status.json").write_text(json.dumps(row), encoding="utf-8")
    outcome = remains.outcome_of(SweepJob(0, 1, request, [{}]))
    assert (outcome.status, outcome.exit_code) == (status, code)
    if status == "failed":
        assert outcome.headline == "no such luck"
    if status in ("failed", "interrupted"):  # the end of an earlier job, and this one did not come so far
        outcome = remains.outcome_of(SweepJob(0, 1, request, [row]), "by SIGKILL")
        assert (outcome.status, outcome.exit_code, outcome.headline) == ("not started", 1, "by SIGKILL")


@pytest.mark.parametrize(
    ("said", "code", "told", "queued"),
    [
        ("7_0\n7_2\n", 0, "", {"7_0", "7_2"}),
        ("", 1, "slurm_load_jobs error: Invalid job id specified", set()),
        ("", 1, "slurm_load_jobs error: Unable to contact slurm controller", {"7_0", "7_1", "7_2"}),
    ],
    ids=["two of three", "forgotten", "no answer"],
)
def test_a_queue_that_does_not_answer_has_lost_no_job(
    said: str, code: int, told: str, queued: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "squeue"
    program.write_text(f"#!/bin/sh\nprintf '{said}'\necho '{told}' >&2\nexit {code}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert slurm._queued(["7_0", "7_1", "7_2"]) == queued


def idle_worker(begun: Callable[..., None]) -> type:
    """In place of a process: it is over at once."""

    class Worker:
        handles, over = (), True

        def __init__(self, context: Any, job: SweepJob, home: Any, threads: int, gpu: str | None) -> None:
            self.job, self.gpu = job, gpu
            begun(job, home, threads, gpu)

        def listen(self) -> None: ...

        def end(self) -> Outcome:
            return Outcome(Path(), "done", 0)

    return Worker


def launch_locally(devices: Sequence[str], processes: int | None = None) -> None:
    launcher = local.Local(processes)
    launcher.command = SimpleNamespace(home=None)  # type: ignore[assignment]
    requests = [Request(configuration("experiment=dirac-w1-3", f"device={device}")) for device in devices]
    launcher.run([SweepJob(index, len(devices), request, [{}]) for index, request in enumerate(requests)])


@pytest.mark.parametrize(
    ("devices", "gpus"),
    [
        (("auto", "cuda"), ["0", "1"]),
        (("cpu", "cpu"), [None, None]),
        (("cuda:1", "cuda:1"), [None, None]),
        (("auto", "cpu"), [None, None]),
    ],
)
def test_only_jobs_that_name_no_device_share_the_gpus(
    devices: Sequence[str], gpus: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that sees one GPU does not find the one called cuda:1."""
    seen: list[str | None] = []
    monkeypatch.setattr(local, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(local, "_Worker", idle_worker(lambda job, home, threads, gpu: seen.append(gpu)))
    monkeypatch.setattr(local, "_cores", lambda: 2)
    launch_locally(devices)
    assert seen == gpus


def test_each_task_of_a_sweep_is_asked_for_its_picture(
    genbench: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where one has none, the others are drawn."""

    def refused(*_: Any) -> Any:
        raise ConfigError("two settings", "name one of them")

    monkeypatch.setattr(Divergence, "sweep_figures", refused)
    assert genbench("-m", "experiment=divergence-w1,dirac-w1-1,dirac-w1-6", "trainer.max_steps=2") == 0
    said = capsys.readouterr().out
    assert "  no picture   two settings" in said
    assert "  picture      outputs/sweep-dirac-w1.png" in said
    with pytest.raises(SystemExit, match="2"):
        figures.main(["sweep", *(f"outputs/{name}" for name in ("divergence-w1", "dirac-w1-1", "dirac-w1-6"))])
    assert capsys.readouterr().out.split() == ["outputs/sweep-dirac-w1.png"]


def test_sweepers_get_the_objective_they_name(genbench: Run, tmp_path: Path) -> None:
    assert genbench("experiment=dirac-w1-3", "trainer.max_steps=20") == 0
    (path,) = tmp_path.glob("outputs/*/*/")
    done = Outcome(path, "done", 0)
    metrics = RunDirectory(path).read_summary()["metrics"]
    for name, metric in ((None, "eval/distance"), ("eval/multiplier_error", "eval/multiplier_error")):
        assert objective(done, name) == metrics[metric]["final"]["value"]
    unknown = (
        objective(done, "eval/nothing"),
        objective(Outcome(path, "failed", 1)),
        objective(Outcome(tmp_path, "done", 0)),
    )
    assert all(map(math.isnan, unknown))


BAD = [
    (["hydra/launcher=local", "hydra.launcher.processes=0"], "hydra.launcher.processes must be"),
    (["hydra/launcher=local", "hydra.launcher.threads=true"], "hydra.launcher.threads must be"),
    (["hydra/launcher=slurm"], "there is no sbatch here"),
    (
        ["hydra/launcher=slrum"],
        "unknown hydra/launcher 'slrum'; did you mean 'slurm'?\n  known: basic, here, local, ray",
    ),
    (
        ["hydra/sweeper=optnua"],
        "unknown hydra/sweeper 'optnua'; did you mean 'optuna'?\n  known: basic, grid, optuna",
    ),
    (["hydra/sweeper=optuna"], "there is nothing to tune"),
    (["hydra/sweeper=optuna", "hydra.sweeper.trials=0"], "hydra.sweeper.trials must be"),
    (["hydra/sweeper=optuna", "hydra.sweeper.sampler=best"], "unknown hydra.sweeper.sampler 'best'"),
    (["hydra/sweeper=optuna", "trainer.log_every=int(interval(0,3))"], "trainer.log_every must be"),
    (["hydra/sweeper=optuna", "optimizer.lr=interval(2,1)"], "optimizer.lr=interval(2,1)"),
    (["hydra/sweeper=optuna", "optimizer.lr=interval(1,2)", "objective=nothing"], "objective=nothing: no objective"),
]


@pytest.mark.parametrize(("words", "told"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_told_before_anything_starts(
    words: list[str],
    told: str,
    genbench: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "slurm" in words[0]:
        pytest.importorskip("submitit")
        monkeypatch.setenv("PATH", str(tmp_path))
    sweep = [] if "optuna" in words[0] else ["seed=1,2"]
    assert genbench("-m", "experiment=dirac-w1-3", "trainer.max_steps=2", *sweep, *words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("genbench:") == 1
    assert list(tmp_path.iterdir()) == []


class TestStudies:
    """Optuna, with validation metrics as its objective."""

    WORDS = ("experiment=dirac-w1-3", "trainer.max_steps=300", "hydra/sweeper=optuna")

    def test_the_same_command_goes_on_and_a_diverged_trial_has_no_value(
        self, genbench: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("optuna")
        space = ("regularizer.coefficient=1e12,0.3", "optimizer.lr=tag(log,interval(1e-3,1e-1))")
        words = ("-m", *self.WORDS, *space, "hydra.sweeper.sampler=random")
        assert genbench(*words, "hydra.sweeper.trials=4") == 3
        assert genbench(*words, "hydra.sweeper.trials=7", "hydra.sweeper.parallel=3") == 3
        said = capsys.readouterr().out
        assert "eval/distance, lower is better" in said
        assert "4 of 7 trials are over already" in said
        runs = [RunDirectory(path) for path in tmp_path.glob("outputs/*/*/")]
        assert len(runs) == 7
        assert {run.status for run in runs} == {"done", "diverged"}
        values = [
            run.read_summary()["metrics"]["eval/distance"]["final"]["value"] for run in runs if run.status == "done"
        ]
        assert f"best of {len(values)} trials is {min(values):.6g}, with regularizer.coefficient=0.3" in said
        assert len(list(tmp_path.glob("outputs/sweep-study-*.png"))) == 1
        problems: list[reading.Problem] = []
        reported = reading.find([tmp_path / "outputs"], problems)
        (table,) = study_tables(list(reading.readable(reported, problems)), problems)["Dirac-GANs"]
        assert not problems
        shown = [row[1].lines[0] for row in table.rows]
        assert shown[: len(values)] == [number(value) for value in sorted(values)]
        assert set(shown[len(values) :]) == {"diverged"}
        assert {row[-1].lines[0] for row in table.rows} == {run.path.name for run in runs}

    def test_a_trial_that_is_killed_before_it_starts_counts_as_failed(
        self, genbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As by a lack of memory for the data; else a study of such trials would never end."""
        pytest.importorskip("optuna")
        monkeypatch.setattr(local, "_work", killed_at_first)
        words = ("-m", *self.WORDS, "optimizer.lr=interval(0.01,0.02)", "hydra.sweeper.trials=2")
        assert genbench(*words, "hydra/launcher=local", "hydra.launcher.processes=1") == 1
        (path,) = tmp_path.glob("outputs/sweep-study-*.json")
        trials = json.loads(path.read_text(encoding="utf-8"))["trials"]
        assert [(trial["status"], trial["value"] is None) for trial in trials] == [
            ("not started", True),
            ("done", False),
        ]

    def test_refused_values_fail_alone(
        self, genbench: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Each value is good, and not each combination."""
        pytest.importorskip("optuna")
        space = ("task.updates=simultaneous,alternating", "task.critic_steps=1,2")
        words = ("-m", *self.WORDS, "trainer.max_steps=20", *space, "hydra.sweeper.trials=8")
        assert genbench(*words) == 2
        said = capsys.readouterr().out
        (path,) = tmp_path.glob("outputs/sweep-study-*.json")
        trials = json.loads(path.read_text(encoding="utf-8"))["trials"]
        refused = [
            (trial["values"]["task.updates"], trial["values"]["task.critic_steps"]) == ("simultaneous", "2")
            for trial in trials
        ]
        assert [trial["value"] is None for trial in trials] == refused
        assert len(trials) == 8
        assert 0 < sum(refused) < 8
        assert said.count("simultaneous updates take one critic step") == 2 * sum(refused)  # at once, and at the end
        assert genbench(*words) == 0
        assert "8 of 8 trials are over already" in capsys.readouterr().out

    def test_where_all_values_are_refused_nothing_counts(
        self, genbench: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("optuna")
        words = ("-m", *self.WORDS, "task.updates=simultaneous", "task.critic_steps=2,3", "hydra.sweeper.trials=3")
        for _ in range(2):
            assert genbench(*words) == 2
            told = capsys.readouterr()
            assert "genbench: simultaneous updates take one critic step" in told.err
            assert "over already" not in told.out
        assert not list(tmp_path.glob("outputs/sweep-study-*"))

    @pytest.mark.parametrize("parallel", [1, 3])
    def test_an_interrupted_trial_goes_on(
        self,
        parallel: int,
        genbench: Run,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Its values are tried again, and its run goes on from its checkpoint; so are those that never started."""
        optuna = pytest.importorskip("optuna")
        space = ("optimizer.lr=interval(0.01,0.02)", "hydra.sweeper.trials=3", f"hydra.sweeper.parallel={parallel}")
        words = ("-m", *self.WORDS, *space)
        log, begun = Trainer._log, []

        def stopped(trainer: Trainer) -> None:
            log(trainer)
            begun.append(trainer)
            if trainer is not begun[0]:  # the second trial
                os.kill(os.getpid(), signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_log", stopped)
            assert genbench(*words) == 130
        (log_file,) = tmp_path.glob("outputs/.studies/*.log")
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(log_file)))
        (study,) = optuna.get_all_study_summaries(storage)
        asked = [trial.params for trial in optuna.load_study(study_name=study.study_name, storage=storage).trials]
        assert len(asked) == max(2, parallel)
        (interrupted,) = (
            path for path in tmp_path.glob("outputs/*/*/") if RunDirectory(path).status == "interrupted"
        )
        capsys.readouterr()
        assert genbench(*words) == 0
        said = capsys.readouterr().out
        assert "resumes from step" in said, said
        assert len(list(tmp_path.glob("outputs/*/*/"))) == 3
        (path,) = tmp_path.glob("outputs/sweep-study-*.json")
        tried = [trial for trial in json.loads(path.read_text(encoding="utf-8"))["trials"] if trial["value"]]
        assert {float(trial["values"]["optimizer.lr"]) for trial in tried} >= {
            params["optimizer.lr"] for params in asked
        }
        assert interrupted.name in {trial["run"] for trial in tried}

    def test_a_second_process_leaves_a_study_alone(
        self, genbench: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("optuna")
        words = ("-m", *self.WORDS, "optimizer.lr=interval(0.01,0.02)", "hydra.sweeper.trials=1")
        assert genbench(*words) == 0
        (log,) = tmp_path.glob("outputs/.studies/*.log")
        before = log.read_bytes()
        with FileLock(log.with_suffix(".lock")):
            assert genbench(*words) == 4
        assert f"another process goes on with study {log.stem}" in capsys.readouterr().err
        assert log.read_bytes() == before

    def test_the_objective_is_no_test_metric_unless_asked(self) -> None:
        test, valid = Quantity("test/nll", "", better="lower"), Quantity("valid/nll", "", better="lower")
        assert objective_among([test, Quantity("valid/kl", ""), valid]) is valid
        assert objective_among([test, valid], "test/nll") is test
        with pytest.raises(ConfigError, match="one of test/nll"):
            objective_among([test])
