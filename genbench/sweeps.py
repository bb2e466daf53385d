"""What a sweep is for: the pictures that need all of its runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import yaml

from genbench import registry
from genbench.engine.rundir import RunDirectory
from genbench.engine.task import DrawsSweeps

__all__ = ["draw"]


def draw(directories: Iterable[Path]) -> list[Path]:
    """Draw the finished runs of every experiment together, if its task has `sweep_figures`.

    Writes `<experiment>/sweep-<figure>.png` beside the run directories and returns the paths.
    """
    experiments: dict[Path, list[Path]] = {}
    for directory in directories:
        if RunDirectory(directory).status == "done":
            experiments.setdefault(directory.parent, []).append(directory)
    paths: list[Path] = []
    for experiment, runs in experiments.items():
        rows = [_row(run) for run in runs]
        task = registry.lookup("task", rows[0][0]["task"]["name"])
        if isinstance(task, DrawsSweeps):
            for name, figure in task.sweep_figures(rows).items():
                paths.append(experiment / f"sweep-{name}.png")
                figure.savefig(paths[-1])
    return paths


def _row(run: Path) -> tuple[dict, dict[str, float]]:
    """A run's configuration and the final value of each of its metrics."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return config, {name: entry["final"]["value"] for name, entry in summary["metrics"].items()}
