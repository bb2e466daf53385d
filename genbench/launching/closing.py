"""The table at the end of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from genbench.compose import Request
from genbench.outcome import Outcome
from genbench.sweeps import common_directory

__all__ = ["table"]


def table(requests: Sequence[Request], outcomes: Sequence[Outcome]) -> str:
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
