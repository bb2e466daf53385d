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

    from genbench.arguments import Arguments
    from genbench.outcome import Outcome

__all__ = ["main"]


def main(words: list[str] | None = None) -> None:
    """Command line of `genbench`; always leaves through SystemExit."""
    with command("genbench"):
        raise SystemExit(_run(sys.argv[1:] if words is None else words))


def _run(words: Sequence[str]) -> int:
    """Do what the command line asks for: check every job, then run them. Returns the exit code."""
    if not words or set(words) & {"-h", "--help"}:
        from genbench.commands.help import help_text

        print(help_text())
        return 0 if words else 2

    from genbench import arguments, compose

    asked = arguments.parse(words)
    compose.add_search_path(asked.config_dir)
    if asked.shows:
        compose.launch(asked.for_hydra)
        return 0
    requests = compose.check(asked)

    from genbench import preflight

    preflight.check(requests)
    return _run_jobs(asked, checked=any(request.launcher == "basic" for request in requests))


def _run_jobs(asked: Arguments, checked: bool) -> int:
    """Run one job, or all jobs of a sweep, `checked` before or not. Returns the largest exit code."""
    from genbench import compose, sweeps

    outcomes: list[Outcome] = []

    def job(composed: DictConfig, words: Sequence[str], launcher: str) -> float:
        from genbench import jobs

        outcome = jobs.do(composed, words, checked)
        outcomes.append(outcome)
        if outcome.interrupted:
            raise SystemExit(outcome.exit_code)  # ends a sweep too: the person asked to stop
        if outcome.exit_code and launcher != "basic":
            raise RuntimeError(f"{outcome.directory}: {outcome.status}. {outcome.headline}")
        return outcome.objective

    compose.launch(asked.for_hydra, job)
    if len(outcomes) > 1:
        from genbench.outcome import table

        print(f"sweep: {table('jobs', outcomes)}")
        sweeps.show(outcome.directory for outcome in outcomes)
    return max((outcome.exit_code for outcome in outcomes), default=0)


if __name__ == "__main__":
    main()
