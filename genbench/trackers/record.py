"""A run as a tracker gets it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.report.reading import Run

__all__ = ["Heading", "Point", "Record", "heading", "record"]

Point = tuple[int, Mapping[str, float]]
"""A step, and the values that were logged there."""


@dataclass(frozen=True)
class Heading:
    """What is known of a run before its first step.

    Attributes:
        run_id: the hash of what decides its numbers: the same whenever it is sent.
    """

    run_id: str
    experiment: str
    title: str
    settings: Mapping[str, Any]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Record(Heading):
    """A run that has ended, whole.

    Attributes:
        status: done, or diverged.
        points: by step, the values that were logged there.
        finals: what was measured at the end.
        files: its configuration and its summary.
    """

    status: str
    points: Mapping[int, Mapping[str, float]]
    finals: Mapping[str, float]
    pictures: Sequence[Path]
    files: Sequence[Path]


def heading(name: str, summary: Mapping[str, Any]) -> Heading:
    """Of a run directory of that name, from its `summary.json`."""
    tags = {"family": summary["family"]["title"], "commit": summary.get("git_commit") or ""}
    return Heading(
        run_id=name.rpartition("-")[2],
        experiment=str(summary["name"]),
        title=str(summary["title"]),
        settings=dict(summary["settings"]),
        tags={key: str(value) for key, value in tags.items() if value},
    )


def record(run: Run) -> Record:
    """Of a run that has ended."""
    points: dict[int, dict[str, float]] = {}
    for metric, curve in run.curves.items():
        for point in curve:
            if math.isfinite(point.value):
                points.setdefault(point.step, {})[metric] = point.value
    finals = {name: entry["final"]["value"] for name, entry in run.summary["metrics"].items()}
    return Record(
        **vars(heading(run.path.name, run.summary)),
        status=run.state,
        points=dict(sorted(points.items())),
        finals={name: float(value) for name, value in finals.items() if value is not None},
        pictures=sorted((run.path / "figures").glob("*.png")),
        files=[run.path / "config.yaml", run.path / "summary.json"],
    )
