"""`genbench-push`: finished runs to a tracker: curves, settings, measurements and pictures.

genbench-push trackio outputs                    all finished runs below a folder, on this machine
genbench-push mlflow outputs/vae-mnist5k         to where MLFLOW_TRACKING_URI points
genbench-push wandb outputs --project digits     to Weights & Biases; WANDB_MODE=offline keeps them here

A run that is there already is left out: it is known by the hash of what decides its numbers. Of one that tracker=…
began to send while it trained, the rest is sent.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from genbench.engine.rundir import FINISHED
from genbench.errors import ConfigError
from genbench.output import command
from genbench.report import reading
from genbench.trackers.live import PROJECT, Live

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Command line of `genbench-push`."""
    parser = argparse.ArgumentParser(
        "genbench-push", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tracker", help="trackio, mlflow or wandb")
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, or folders of them")
    parser.add_argument("--project", default=PROJECT, help="name of the project there")
    parser.add_argument("--again", action="store_true", help="send runs that are there already, too")
    options = parser.parse_args(arguments)
    with command("genbench-push"):
        _push(options)


def _push(options: argparse.Namespace) -> None:
    from genbench.trackers import heading, tracker

    there = tracker(options.tracker, options.project)
    problems: list[reading.Problem] = []
    ended = [run for run in reading.readable(reading.find(options.runs, problems), problems) if run.state in FINISHED]
    for problem in problems:
        print(f"left out: {problem.path}: {problem.reason}")
    if not ended:
        raise ConfigError("there is no finished run", "name run directories, or folders of them, such as outputs")
    sent, word = 0, f"{options.tracker}/{options.project}"
    for run in ended:
        found = heading(run.path.name, run.summary)
        rest = not options.again and Live(word, run.path).left
        if not rest and not options.again and there.holds(found):
            print(f"there already: {found.title}")
            continue
        Live(word, run.path, afresh=not rest).finish()
        sent += 1
        print(f"{'sent the rest' if rest else 'sent'}: {found.title}")
    print(f"{sent} of {len(ended)} runs sent to {options.tracker}, project {options.project}")


if __name__ == "__main__":
    main()
