"""Launchers: where the jobs of a sweep run. This one runs them here, one after the other.

What is done is left alone, and equal runs are run once, by any launcher.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from genbench import compose, jobs, preflight
from genbench.compose import Request
from genbench.engine.rundir import writable
from genbench.errors import first_line
from genbench.launching import remains
from genbench.launching.command import Command
from genbench.launching.remains import SweepJob
from genbench.outcome import Outcome, objective

__all__ = ["Here", "Launcher", "elsewhere", "run_all"]


class Launcher(HydraLauncher):
    """Base class. A subclass defines `run`; its constructor takes the keys of `hydra.launcher`.

    Attributes:
        elsewhere: whether jobs may run on other machines than the one that checks them.
    """

    elsewhere = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        assert isinstance(task_function, Command)
        self.command, self.config, self.hydra_context = task_function, config, hydra_context

    @abstractmethod
    def run(self, jobs: Sequence[SweepJob]) -> list[Outcome | None]:
        """Do the jobs, and say how each ended; None where its run directory has to tell."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """For sweepers that are not ours."""
        chosen = [compose.request(compose.Job(compose.parse(words), words)) for words in job_overrides]
        outcomes = run_all(self, chosen, self.command, initial_job_idx)
        return [
            JobReturn(
                overrides=list(words),
                status=JobStatus.COMPLETED,
                _return_value=objective(outcome, request.config.objective),
            )
            for words, request, outcome in zip(job_overrides, chosen, outcomes, strict=True)
        ]


class Here(Launcher):
    """In this process, as jobs of Hydra, so that its callbacks are called."""

    def run(self, jobs: Sequence[SweepJob]) -> list[Outcome | None]:
        outcomes: list[Outcome | None] = []
        writable(Path(str(self.config.hydra.sweep.dir)))  # Hydra makes it
        for job in jobs:
            print(job.label)
            outcome = self._run(job.index, job.request)
            outcomes.append(outcome)
            if outcome.interrupted:  # the person asked to stop
                break
        return outcomes + [None] * (len(jobs) - len(outcomes))

    def _run(self, index: int, request: Request) -> Outcome:
        outcomes: list[Outcome] = []

        def do(_: DictConfig) -> float:
            outcomes.append(jobs.do(lambda: request.config, request.words, checked=True))
            return objective(outcomes[0], request.config.objective)

        config = compose.composed(compose.Job(compose.parse([*self.config.hydra.overrides.hydra, *request.words])))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = index
        returned = run_job(do, config, "hydra.sweep.dir", "hydra.sweep.subdir", self.hydra_context)
        if not outcomes:
            assert returned.return_value  # raises what kept Hydra from calling the job
        return outcomes[0]


def run_all(
    launcher: HydraLauncher,
    requests: Sequence[Request],
    command: Command,
    first: int = 0,
    total: int | None = None,
    checked: bool = False,
) -> list[Outcome]:
    """Check all jobs, unless they are `checked`, then run those that are not over. Returns how each ended.

    `first` is the number of the first of them, of `total`. Raises ConfigError and DataError before anything runs.
    """
    if not checked:
        preflight.check(requests, elsewhere(launcher))
    total = first + len(requests) if total is None else total
    of_run: dict[tuple[Path, ...], Outcome] = {}
    waiting: dict[tuple[Path, ...], SweepJob] = {}
    runs = [remains.directories(request) for request in requests]
    keys = [tuple(each.path for each in found) for found in runs]  # equal for jobs that are the same runs
    for index, (key, request, found) in enumerate(zip(keys, requests, runs, strict=True), first):
        if key in of_run or key in waiting:
            continue
        before = remains.finished(found)
        if before is None:
            waiting[key] = SweepJob(index, total, request, [each.read_status() for each in found])
        else:
            of_run[key] = before
    if of_run:
        print(f"{len(of_run)} of {len(of_run) + len(waiting)} are over already; delete a directory to repeat its run")
    if waiting:
        jobs = list(waiting.values())
        ended = launcher.run(jobs) if isinstance(launcher, Launcher) else _through(launcher, jobs, command, first)
        for key, job, outcome in zip(waiting, jobs, ended, strict=True):
            of_run[key] = outcome or remains.outcome_of(job)
    outcomes = [of_run[key] for key in keys]
    command.add(requests, outcomes)
    return outcomes


def elsewhere(launcher: HydraLauncher) -> bool:
    """Whether its jobs may run on other machines."""
    return launcher.elsewhere if isinstance(launcher, Launcher) else True


def _through(launcher: HydraLauncher, jobs: Sequence[SweepJob], command: Command, first: int) -> list[Outcome | None]:
    """By a launcher that is not ours. It may give up all jobs for the sake of one."""
    told = ""
    try:
        launcher.launch([list(job.request.words) for job in jobs], first)
    except (Exception, SystemExit) as error:
        told = f"{type(error).__name__}: {first_line(error)}"
    return [command.done_here.get(job.request.words) or remains.outcome_of(job, told) for job in jobs]
