"""A finished run as a tracker gets it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.report.reading import Run

__all__ = ["Record", "record"]


@dataclass(frozen=True)
class Record:
    """A run, whole.

    Attributes:
        run_id: the hash of what decides its numbers: the same in every push.
        points: by step, the values that were logged there.
        finals: what was measured at the end.
        files: its configuration and its summary.
    """

    run_id: str
    experiment: str
    title: str
    settings: Mapping[str, Any]
    tags: Mapping[str, str]
    points: Mapping[int, Mapping[str, float]]
    finals: Mapping[str, float]
    pictures: Sequence[Path]
    files: Sequence[Path]


def record(run: Run) -> Record:
    """Of a run that has ended."""
    points: dict[int, dict[str, float]] = {}
    for metric, curve in run.curves.items():
        for point in curve:
            if math.isfinite(point.value):
                points.setdefault(point.step, {})[metric] = point.value
    finals = {name: entry["final"]["value"] for name, entry in run.summary["metrics"].items()}
    tags = {
        "status": run.state,
        "family": run.summary["family"]["title"],
        "commit": run.summary.get("git_commit") or "",
    }
    return Record(
        run_id=run.path.name.rpartition("-")[2],
        experiment=run.name,
        title=str(run.summary["title"]),
        settings=dict(run.summary["settings"]),
        tags={key: str(value) for key, value in tags.items() if value},
        points=dict(sorted(points.items())),
        finals={name: float(value) for name, value in finals.items() if value is not None},
        pictures=sorted((run.path / "figures").glob("*.png")),
        files=[run.path / "config.yaml", run.path / "summary.json"],
    )
