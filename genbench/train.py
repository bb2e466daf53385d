"""The one entry point: compose → validate → build from the registry → Trainer.fit → final evaluation.

    genbench experiment=vae-mnist5k
    genbench -m 'experiment=glob(dirac-*)'

Exit codes: 0 done (or done before), 1 failed, 2 bad input, 3 diverged, 4 the run is locked by another process, 130
interrupted by SIGINT, 143 by SIGTERM, and 128 + its number by another signal. A sweep runs all its jobs and exits
with the largest code; where another launcher runs them in other processes, a job that is not done is that
launcher's error.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from genbench.output import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig

    from genbench.run import Outcome

__all__ = ["main"]

# Flags with which Hydra prints something instead of running a job.
INFORMATION = ("--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")


def main(arguments: list[str] | None = None) -> None:
    """Command line of `genbench`; always leaves through SystemExit."""
    with command("genbench"):
        raise SystemExit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    """Do what the command line asks for. Returns the exit code."""
    from genbench import compose

    arguments = compose.options_first(arguments)
    if not arguments or set(arguments) & {"-h", "--help"}:
        from genbench.commands.help import help_text

        print(help_text())
        return 0 if arguments else 2
    compose.add_plugin_search_path()
    if not any(argument.split("=")[0] in INFORMATION for argument in arguments):
        compose.check(arguments)
    return _run_jobs(arguments)


def _run_jobs(arguments: list[str]) -> int:
    """Run one job, or all jobs of a sweep. Returns the largest exit code."""
    from genbench import compose, sweeps

    outcomes: list[Outcome] = []

    def job(composed: DictConfig, words: Sequence[str], launcher: str) -> float:
        from genbench import jobs

        outcome = jobs.do(composed, words)
        outcomes.append(outcome)
        if outcome.interrupted:
            raise SystemExit(outcome.exit_code)  # ends a sweep too: the person asked to stop
        if outcome.exit_code and launcher != "basic":
            raise RuntimeError(f"{outcome.directory}: {outcome.status}. {outcome.headline}")
        return outcome.objective

    compose.launch(arguments, job)
    if len(outcomes) > 1:
        from genbench.run import table

        print(f"sweep: {table('jobs', outcomes)}")
        sweeps.show(outcome.directory for outcome in outcomes)
    return max((outcome.exit_code for outcome in outcomes), default=0)


if __name__ == "__main__":
    main()
