"""What a sweep is for: the pictures that need all of its runs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from genbench import registry
from genbench.engine.rundir import RunDirectory
from genbench.engine.task import DrawsSweeps
from genbench.errors import GenbenchError
from genbench.loaded import LoadedRun

__all__ = ["common_directory", "draw", "show"]


def common_directory(paths: Collection[Path]) -> Path:
    """The deepest directory that holds all of one or more paths; absolute if one of them is."""
    common = os.path.commonpath([os.path.abspath(path) for path in paths])
    return Path(common if any(path.is_absolute() for path in paths) else os.path.relpath(common))


def draw(directories: Iterable[Path]) -> list[Path]:
    """Draw the finished runs of every task together, if it draws sweeps.

    Writes `sweep-<figure>.png` beside the runs, or beside their experiments if there are several, and returns the
    paths. Raises ConfigError for runs that do not belong in one picture.
    """
    runs: dict[str, list[LoadedRun]] = {}
    for directory in directories:
        if RunDirectory(directory).status == "done":
            run = LoadedRun(directory)
            runs.setdefault(run.config["task"]["name"], []).append(run)
    paths: list[Path] = []
    for name, together in runs.items():
        task: Any = registry.lookup("task", name)
        if isinstance(task, DrawsSweeps):
            where = common_directory([run.directory.path.parent for run in together])
            for title, figure in task.sweep_figures(together).items():
                paths.append(where / f"sweep-{title}.png")
                # A report finds in the file which family it belongs to.
                figure.savefig(paths[-1], metadata={"Family": task.family.title})
    return paths


def show(directories: Iterable[Path]) -> None:
    """Draw, and print where the pictures are, or why there are none: the runs are done in any case."""
    try:
        for path in draw(directories):
            print(f"  picture      {path}")
    except GenbenchError as error:
        print(f"  no picture   {error}")
