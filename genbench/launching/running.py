"""All jobs of a sweep, or of a batch of it, by any launcher: what is done is left alone, equal runs are run once."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hydra.plugins.launcher import Launcher as HydraLauncher

from genbench import preflight
from genbench.compose import Request
from genbench.config import to_dict
from genbench.errors import first_line
from genbench.launching import remains
from genbench.launching.command import Command
from genbench.launching.launcher import Launcher, SweepJob
from genbench.outcome import Outcome

__all__ = ["elsewhere", "run_all"]


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
    of_run: dict[str, Outcome] = {}
    waiting: dict[str, SweepJob] = {}
    keys = [_identity(request) for request in requests]
    for index, (key, request) in enumerate(zip(keys, requests, strict=True), first):
        if key in of_run or key in waiting:
            continue
        before = remains.finished(request)
        if before is None:
            waiting[key] = SweepJob(index, total, request, remains.statuses(request))
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


def _identity(request: Request) -> str:
    """Equal for jobs that are the same runs."""
    if request.config.ensemble is None:
        return str(remains.directories(request)[0].path)
    return json.dumps(to_dict(request.config), sort_keys=True)


def _through(launcher: HydraLauncher, jobs: Sequence[SweepJob], command: Command, first: int) -> list[Outcome | None]:
    """By a launcher that is not ours. It may give up all jobs for the sake of one."""
    told = ""
    try:
        launcher.launch([list(job.request.words) for job in jobs], first)
    except (Exception, SystemExit) as error:
        told = f"{type(error).__name__}: {first_line(error)}"
    return [command.done_here.get(job.request.words) or remains.outcome_of(job, told) for job in jobs]
