"""A command line, as Hydra calls it: its jobs, and how they ended."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from genbench import compose, ending, jobs, sweeps
from genbench.arguments import Arguments
from genbench.compose import Request
from genbench.launching.work import Home
from genbench.outcome import Outcome, objective
from genbench.sweeps import common_directory

__all__ = ["Command"]


class Command:
    """Called with a composed configuration it does that job. Launchers that are not ours send it to their workers.

    Attributes:
        home: where it was typed.
        requests, outcomes: the jobs of a sweep that are over, and how each ended.
        done_here: how jobs of this process ended, by their words.
        signal: the one that ended a sweep.
    """

    def __init__(self, asked: Arguments) -> None:
        self._asked, self._process = asked, os.getpid()
        self.requests: list[Request] = []
        self.outcomes: list[Outcome] = []
        self.done_here: dict[tuple[str, ...], Outcome] = {}
        self.signal: int | None = None

    @cached_property
    def home(self) -> Home:
        return Home.here(self._asked.search_path)

    def __getstate__(self) -> dict[str, Any]:
        """For another process: with this one's home."""
        return {**self.__dict__, "home": self.home}

    def __call__(self, composed: DictConfig) -> float:
        """What a sweeper may optimize."""
        words = tuple(HydraConfig.get().overrides.task)
        if os.getpid() != self._process:
            self.home.enter()
        outcome = jobs.do(lambda: compose.validate(composed, words), words)
        self.done_here[words] = outcome
        if outcome.interrupted:
            raise SystemExit(outcome.exit_code)  # ends a sweep too: the person asked to stop
        return objective(outcome, composed.objective)

    def end(self) -> int:
        """Say how a run or a sweep ended, and draw what a sweep is for. Returns the exit code of the command."""
        if self.outcomes:
            print(_table(self.requests, self.outcomes))
            sweeps.show(outcome.directory for outcome in self.outcomes)
        else:
            places = self._asked.search_path
            where = (f"hydra.searchpath=[{','.join(places)}]",) if places else ()
            for words, outcome in self.done_here.items():
                ending.show(outcome, (*where, *words))
        codes = [outcome.exit_code for outcome in (*self.outcomes, *self.done_here.values())]
        return max([*codes, 128 + self.signal if self.signal else 0])

    def add(self, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> None:
        self.requests += requests
        self.outcomes += outcomes


def _table(requests: Sequence[Request], outcomes: Sequence[Outcome]) -> str:
    """A line for each job: what the sweep chose for it, how it ended, and what it measured or why it did not.

    Below a job that did not end well stands its directory.
    """
    names = [" ".join(request.swept) or request.config.name for request in requests]
    width = max(map(len, names))
    rows = []
    for name, outcome in zip(names, outcomes, strict=True):
        rows.append(f"{name:<{width}}  {outcome.status:<11}  {outcome.headline}".rstrip())
        if outcome.status != "done":
            rows.append(f"{'':<{width}}  {outcome.directory}")
    done = sum(outcome.status == "done" for outcome in outcomes)
    where = common_directory([outcome.directory.parent for outcome in outcomes])
    return "\n".join([f"sweep: {done} of {len(outcomes)} jobs done, in {where}", *rows])
