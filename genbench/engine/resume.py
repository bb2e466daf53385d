"""Where a run goes on: its newest checkpoint that loads and fits, and what has changed since."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from genbench.engine import checkpoint
from genbench.errors import GenbenchError, in_one_line

__all__ = ["DECISIVE", "Parent", "fit", "go_on", "restore"]

State = dict[str, Any]


Parent = Callable[[Any], tuple["State | None", str]]
"""How a run begins with another one. Called with the task; returns the other run's whole state, or None if it has put
that run's weights into the task itself; and a line that says so."""


DECISIVE = ("code", "torch", "device")
"""What of `checkpoint.Origin.made_by` decides a run's numbers."""


def restore(
    directory: Path,
    origin: checkpoint.Origin,
    state: Callable[[], State],
    take_up: Callable[[State], None],
    say: Callable[[str], None],
) -> State | None:
    """The newest checkpoint in `directory` that `take_up` accepts; None, and everything as it was, if there is none.

    One that does not load or fit is set aside, and said so. Raises GenbenchError where it does not fit because the
    code has changed, and where another version of genbench wrote it.
    """
    paths = checkpoint.newest_first(directory)
    fresh = copy.deepcopy(state()) if paths else {}
    for path in paths:
        try:
            found = checkpoint.load(path, origin.run)
            fit(str(path), found, origin, take_up)
        except checkpoint.Unusable as error:
            checkpoint.set_aside(path)
            say(f"checkpoint {path} {error}; going back to an older one")
        else:
            return found
    if paths:
        take_up(fresh)
        say("no good checkpoint is left: starting again from step 0")
    return None


def fit(name: str, state: State, origin: checkpoint.Origin, take_up: Callable[[State], None]) -> None:
    """Take up what a checkpoint holds, which is called `name`.

    Raises GenbenchError where it does not fit because the code has changed, and Unusable for another reason.
    """
    try:
        take_up(state)
    except Exception as error:  # a missing key, a tensor of another shape, an optimizer of another kind
        stretches = state.get("progress", {}).get("stretches") or [{}]
        if stretches[-1].get("code") != origin.made_by["code"]:
            raise GenbenchError(
                f"{name} does not fit the code, which has changed since: {in_one_line(error)}\n"
                "  go back to the code of that time, or delete its run directory to repeat that run"
            ) from error
        raise checkpoint.Unusable(f"does not fit the run ({type(error).__name__}: {in_one_line(error)})") from error


def go_on(
    stretches: list[dict[str, Any]], step: int, made_by: Mapping[str, str | None], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """The stretches of a run's steps, each with what computed it, from `step` on by `made_by`.

    Says so where that is not what computed the steps before.
    """
    last = stretches[-1] if stretches else None
    if last is not None and all(last.get(key) == made_by[key] for key in DECISIVE):
        return stretches
    if last is not None and step > 0:
        changed = [key for key in DECISIVE if last.get(key) != made_by[key]]
        told = ", ".join(f"{key} (was {last.get(key)}, is {made_by[key]})" for key in changed)
        say(f"not all steps are computed alike: from step {step} on another {told}")
    return [*(row for row in stretches if row["from"] < step), {"from": step, **made_by}]
