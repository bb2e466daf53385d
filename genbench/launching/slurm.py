"""Jobs in a Slurm queue, through submitit: each goes on by itself after a time limit or a preemption."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from genbench.compose import Request
from genbench.engine.interrupts import Interrupts
from genbench.errors import ConfigError, optional_package
from genbench.launching.launcher import Launcher
from genbench.launching.remains import SweepJob, outcome_of
from genbench.launching.work import Home, perform
from genbench.outcome import Outcome

__all__ = ["Slurm"]

LOOK = 2  # seconds between two looks at the queue
LONGEST_NAME = 60
GONE = "Invalid job id"  # squeue of jobs that the controller has forgotten


class Slurm(Launcher):
    """An array of jobs. `folder` of submitit's own files, below the runs' root; null: `.slurm`.

    `requeues`: how often a job may go on after its time limit. `warning`: seconds before the limit at which it saves
    and goes back into the queue. The other keys are what submitit's AutoExecutor takes (timeout_min, mem_gb,
    cpus_per_task, gpus_per_node, slurm_partition, …).
    """

    elsewhere = True

    def __init__(self, requeues: int = 1000, warning: int = 60, folder: str | None = None, **keys: Any) -> None:
        self._requeues, self._warning, self._folder, self._keys = requeues, warning, folder, keys

    def run(self, jobs: Sequence[SweepJob]) -> list[Outcome | None]:
        submitit: Any = optional_package("submitit", "slurm")
        if shutil.which("sbatch") is None:
            raise ConfigError(
                "there is no sbatch here", "submit from a machine of the cluster, or use hydra/launcher=local"
            )
        folder = Path(self._folder or Path(jobs[0].request.config.output_root) / ".slurm")
        executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=self._requeues)
        names = dict.fromkeys(job.request.config.name for job in jobs)
        keys = {key: value for key, value in self._keys.items() if value is not None}
        try:
            executor.update_parameters(
                name=",".join(names)[:LONGEST_NAME], slurm_signal_delay_s=self._warning, **keys
            )
            submitted = executor.map_array(
                Resumable(self.command.home), [job.request for job in jobs], [job.label for job in jobs]
            )
        except (submitit.core.utils.FailedJobError, NameError, ValueError, TypeError) as error:
            raise ConfigError(f"Slurm took no job: {error}", "see hydra.launcher and `sinfo`") from error
        waiting = dict(zip(submitted, jobs, strict=True))
        for handle, job in waiting.items():
            print(f"{job.label}: job {handle.job_id}")
        ended: dict[str, Outcome] = {}
        gone: set[str] = set()
        with Interrupts() as interrupts:
            while waiting and interrupts.pending is None:
                queued = _queued([handle.job_id for handle in waiting])
                for handle, job in list(waiting.items()):
                    # The file of results may appear some time after the job is gone.
                    if handle.paths.result_pickle.exists() or handle.job_id in gone - queued:
                        ended[job.number] = _outcome(handle, job)
                        print(f"{job.label}: {ended[job.number].status}")
                        del waiting[handle]
                gone = {handle.job_id for handle in waiting} - queued
                time.sleep(LOOK if waiting else 0)
            self.command.signal = interrupts.pending
        if waiting:
            told = " ".join(handle.job_id for handle in waiting)
            print(f"{len(waiting)} jobs stay in the queue; to take them out: scancel {told}")
        return [ended.get(job.number) for job in jobs]


def _queued(numbers: Collection[str]) -> set[str]:
    """Those of these jobs that wait or run. (What becomes of a job is known to sacct too, where accounting is on.)"""
    arrays = ",".join(sorted({number.partition("_")[0] for number in numbers}))
    found = _call("squeue", "--noheader", "--array", "--format=%i", f"--jobs={arrays}")
    if found.returncode and GONE not in found.stderr:  # the controller does not answer: nothing is known
        return set(numbers)
    return set(found.stdout.split())


def _call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True)


def _outcome(handle: Any, job: SweepJob) -> Outcome:
    """Of a job that has left the queue."""
    if handle.paths.result_pickle.exists() and handle.exception() is None:
        result = handle.result()
        assert isinstance(result, Outcome)
        return result
    state = re.search(r"JobState=(\w+)", _call("scontrol", "show", "job", handle.job_id).stdout)
    told = [f"Slurm job {handle.job_id}", *([state[1]] if state else []), f"its log is {handle.paths.stderr}"]
    return outcome_of(job, ", ".join(told))


class Resumable:
    """What submitit calls in the queue, and again after a time limit or a preemption."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def __call__(self, request: Request, label: str) -> Outcome:
        _name_job(f"{request.config.name} {' '.join(request.swept)}".strip())
        print(label, flush=True)
        outcome = perform(request, self._home)
        if outcome.interrupted:  # taken out of the queue, or Slurm puts it back by itself
            raise SystemExit(outcome.exit_code)
        return outcome

    def checkpoint(self, request: Request, label: str) -> Any:
        """The run was saved; the same call goes on with it."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, request, label)


def _name_job(name: str) -> None:
    """What squeue shows: an array has one name, until each of its jobs says its own."""
    number = os.environ.get("SLURM_JOB_ID")
    with suppress(OSError):
        _call("scontrol", "update", f"jobid={number}", f"name={name[:LONGEST_NAME]}")
