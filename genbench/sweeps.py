"""What a sweep is for: the pictures that need all of its runs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from genbench import registry
from genbench.atomic import replacing
from genbench.engine.rundir import RunDirectory
from genbench.engine.task import DrawsSweeps
from genbench.errors import ConfigError, GenbenchError
from genbench.loaded import LoadedRun

__all__ = ["common_directory", "draw", "show"]


def common_directory(paths: Collection[Path]) -> Path:
    """The deepest directory that holds all of one or more paths; absolute if one of them is."""
    common = os.path.commonpath([os.path.abspath(path) for path in paths])
    return Path(common if any(path.is_absolute() for path in paths) else os.path.relpath(common))


def draw(directories: Iterable[Path]) -> Iterator[Path | ConfigError]:
    """Draw the finished runs of every task together, if it draws sweeps.

    Writes `sweep-<figure>.png` beside the runs, or beside their experiments if there are several, and yields the
    paths, and for runs of a task that do not belong in one picture the reason.
    """
    runs: dict[str, list[LoadedRun]] = {}
    for directory in dict.fromkeys(directories):  # jobs of a sweep may be one run
        if RunDirectory(directory).status == "done":
            run = LoadedRun(directory)
            runs.setdefault(run.config["task"]["name"], []).append(run)
    for name, together in runs.items():
        task: Any = registry.lookup("task", name)
        if not isinstance(task, DrawsSweeps):
            continue
        where = common_directory([run.directory.path.parent for run in together])
        try:
            figures = task.sweep_figures(together)
        except ConfigError as error:
            yield error
            continue
        for title, figure in figures.items():
            path = where / f"sweep-{title}.png"
            with replacing(path) as file:  # a report finds in it which family it belongs to
                figure.savefig(file, metadata={"Family": task.family.title})
            yield path


def show(directories: Iterable[Path]) -> None:
    """Draw, and print where the pictures are, or why there are none: the runs are done in any case."""
    try:
        for drawn in draw(directories):
            print(f"  {'picture   ' if isinstance(drawn, Path) else 'no picture'}   {drawn}")
    except GenbenchError as error:
        print(f"  no picture   {error}")
