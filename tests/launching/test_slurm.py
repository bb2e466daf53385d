"""What the Slurm launcher asks submitit for, and what a job does when its time is up. (`make test-launchers` has a
cluster.)"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from genbench.compose import Request, configuration
from genbench.launching import slurm
from genbench.launching.remains import SweepJob
from genbench.launching.work import Home
from genbench.outcome import Outcome

DONE = Outcome(Path("outputs/dirac-w1-3/seed=1"), "done", 0)


class Handle:
    """A job in the queue, which is done."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.paths = SimpleNamespace(result_pickle=SimpleNamespace(exists=lambda: True), stderr="log")

    def exception(self) -> None:
        return None

    def result(self) -> Outcome:
        return DONE


class Executor:
    """What submitit's AutoExecutor is told."""

    made: list[Executor]

    def __init__(self, folder: Path, **keys: Any) -> None:
        self.folder, self.keys, self.parameters = folder, keys, dict[str, Any]()
        type(self).made.append(self)

    def update_parameters(self, **keys: Any) -> None:
        self.parameters |= keys

    def map_array(self, call: Any, requests: Sequence[Request], labels: Sequence[str]) -> list[Any]:
        self.call, self.requests, self.labels = call, requests, labels
        return [Handle(f"7_{number}") for number in range(len(requests))]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[Outcome | None], Executor, slurm.Slurm]]:
    """`launch(count, **keys)`: so many jobs through a queue that is done with each at once."""

    def launched(count: int, queued: Callable[..., set[str]] = lambda _: set(), **keys: Any) -> Any:
        Executor.made = []
        failed = type("FailedJobError", (Exception,), {})
        submitit = SimpleNamespace(
            AutoExecutor=Executor, core=SimpleNamespace(utils=SimpleNamespace(FailedJobError=failed))
        )
        monkeypatch.setattr(slurm, "optional_package", lambda *_: submitit)
        monkeypatch.setattr(slurm.shutil, "which", lambda _: "sbatch")
        monkeypatch.setattr(slurm, "_queued", queued)
        monkeypatch.setattr(slurm, "LOOK", 0)
        launcher = slurm.Slurm(**keys)
        launcher.command = SimpleNamespace(home=Home(Path()), signal=None)  # type: ignore[assignment]
        requests = [Request(configuration("experiment=dirac-w1-3", f"seed={1 + index}")) for index in range(count)]
        found = launcher.run([SweepJob(index, count, request, [{}]) for index, request in enumerate(requests)])
        return found, Executor.made[0], launcher

    return launched


def test_a_queue_gets_what_the_launcher_was_told(launch: Any) -> None:
    found, executor, _ = launch(2, requeues=3, warning=90, timeout_min=20, mem_gb=None)
    assert found == [DONE, DONE]
    assert executor.folder == Path("outputs/.slurm")
    assert executor.keys == {"cluster": "slurm", "slurm_max_num_timeout": 3}
    assert executor.parameters == {"name": "dirac-w1-3", "slurm_signal_delay_s": 90, "timeout_min": 20}
    assert isinstance(executor.call, slurm.Resumable)
    assert [request.config.seed for request in executor.requests] == [1, 2]
    assert executor.labels == ["[1/2]", "[2/2]"]


def test_jobs_stay_in_the_queue_when_the_person_goes(
    launch: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def queued(numbers: Sequence[str]) -> set[str]:
        signal.raise_signal(signal.SIGINT)
        return set(numbers)

    monkeypatch.setattr(Executor, "map_array", unfinished(Executor.map_array))
    found, _, launcher = launch(2, queued=queued)
    assert found == [None, None]
    assert launcher.command.signal == signal.SIGINT
    assert "2 jobs stay in the queue; to take them out: scancel 7_0 7_1" in capsys.readouterr().out


def test_a_job_that_left_the_queue_without_a_result_is_told(launch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Executor, "map_array", unfinished(Executor.map_array))
    monkeypatch.setattr(slurm, "_call", lambda *words: SimpleNamespace(stdout=f"{words[-1]} JobState=OUT_OF_MEMORY "))
    (outcome,), _, launcher = launch(1)
    assert launcher.command.signal is None
    assert outcome.status == "not started"
    assert outcome.headline == "Slurm job 7_0, OUT_OF_MEMORY, its log is log"


def unfinished(map_array: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    def mapped(*arguments: Any) -> list[Any]:
        handles = map_array(*arguments)
        for handle in handles:
            handle.paths.result_pickle.exists = lambda: False
        return handles

    return mapped


def test_a_job_goes_on_where_its_time_was_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit asks it what to put back into the queue: the same call."""
    helpers: Any = ModuleType("submitit.helpers")
    helpers.DelayedSubmission = lambda *call: call
    monkeypatch.setitem(sys.modules, "submitit", ModuleType("submitit"))
    monkeypatch.setitem(sys.modules, "submitit.helpers", helpers)
    job, request = slurm.Resumable(Home(Path())), Request(configuration("experiment=dirac-w1-3"))
    assert job.checkpoint(request, "[1/2]") == (job, request, "[1/2]")


@pytest.mark.parametrize(("status", "code"), [("done", 0), ("diverged", 3), ("interrupted", 138)])
def test_only_an_interrupted_job_ends_as_one(status: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Slurm would take it for done, and a sweep for lost."""
    outcome = Outcome(Path(), status, code)
    monkeypatch.setattr(slurm, "perform", lambda *_: outcome)
    monkeypatch.setattr(slurm, "_name_job", lambda _: None)
    job, request = slurm.Resumable(Home(Path())), Request(configuration("experiment=dirac-w1-3"))
    if status == "interrupted":
        with pytest.raises(SystemExit, match=str(code)):
            job(request, "[1/2]")
    else:
        assert job(request, "[1/2]") is outcome
