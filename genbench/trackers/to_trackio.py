"""Trackio: a project on this machine (TRACKIO_DIR), or on Hugging Face (TRACKIO_SPACE_ID)."""

from __future__ import annotations

import trackio

from genbench.trackers.record import Record

__all__ = ["make"]


class _Trackio:
    def __init__(self, project: str) -> None:
        self._project = project

    def holds(self, record: Record) -> bool:
        try:
            return any(run.name == _name(record) for run in trackio.Api().runs(self._project))
        except ValueError:  # there is no such project yet
            return False

    def push(self, record: Record) -> None:
        run = trackio.init(
            self._project,
            _name(record),
            group=record.experiment,
            config={**record.settings, **record.tags},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        for step, row in record.points.items():
            run.log(dict(row), step=step)
        last = max(record.points, default=0)
        run.log({f"final/{name}": value for name, value in record.finals.items()}, step=last)
        pictures = {f"figures/{path.stem}": trackio.Image(path, caption=path.stem) for path in record.pictures}
        if pictures:
            run.log(pictures, step=last)
        run.finish()


def _name(record: Record) -> str:
    return f"{record.title} {record.run_id}"


def make(project: str) -> _Trackio:
    """Runs of a project."""
    return _Trackio(project)
