"""Launchers: where the jobs of a sweep run. This one runs them here, one after the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from genbench import compose, jobs, preflight
from genbench.compose import Request
from genbench.launching.command import Command
from genbench.outcome import Outcome, objective

__all__ = ["Here", "Launcher", "SweepJob"]


@dataclass(frozen=True)
class SweepJob:
    """A job of a sweep that is not done yet: which of how many, and what the sweep chose for it.

    Attributes:
        statuses: of its runs, before the sweep does anything about them.
    """

    index: int
    total: int
    request: Request
    statuses: Sequence[Mapping[str, Any]]

    @property
    def number(self) -> str:
        """`[3/5]`."""
        return f"[{self.index + 1}/{self.total}]"

    @property
    def label(self) -> str:
        return " ".join([self.number, *self.request.swept])


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
        from genbench.launching.running import run_all

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
        preflight.writable(Path(str(self.config.hydra.sweep.dir)))  # Hydra makes it
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
