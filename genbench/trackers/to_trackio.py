"""Trackio: a project on this machine (TRACKIO_DIR), or on Hugging Face (TRACKIO_SPACE_ID)."""

from __future__ import annotations

import trackio

from genbench.trackers.record import Heading, Record
from genbench.trackers.stepwise import Stepwise

__all__ = ["make"]


class _Trackio:
    def __init__(self, project: str) -> None:
        self._project = project

    def holds(self, heading: Heading) -> bool:
        try:
            return any(run.name == _name(heading) for run in trackio.Api().runs(self._project))
        except ValueError:  # there is no such project yet
            return False

    def begin(self, heading: Heading, again: bool) -> _Stream:
        goes_on = again and self.holds(heading)
        return _Stream(
            trackio.init(
                self._project,
                _name(heading),
                group=heading.experiment,
                config={**heading.settings, **heading.tags},
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            ),
            goes_on,
        )


class _Stream(Stepwise):
    def finish(self, record: Record) -> None:
        last = max(record.points, default=0)
        self._run.log({f"final/{name}": value for name, value in record.finals.items()}, step=last)
        pictures = {f"figures/{path.stem}": trackio.Image(path, caption=path.stem) for path in record.pictures}
        if pictures:
            self._run.log(pictures, step=last)
        self.leave()


def _name(heading: Heading) -> str:
    return f"{heading.title} {heading.run_id}"


def make(project: str) -> _Trackio:
    """Runs of a project."""
    return _Trackio(project)
