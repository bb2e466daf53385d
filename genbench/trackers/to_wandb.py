"""Weights & Biases: a run's hash is its id. With WANDB_MODE=offline it lies in ./wandb until `wandb sync`."""

from __future__ import annotations

import os
from pathlib import Path

import wandb

from genbench.errors import ConfigError, GenbenchError
from genbench.trackers.record import Heading, Record
from genbench.trackers.stepwise import Stepwise

__all__ = ["make"]


class _Wandb:
    def __init__(self, project: str) -> None:
        self._project = project

    def holds(self, heading: Heading) -> bool:
        if os.environ.get("WANDB_MODE") == "offline":  # what is not yet sent lies in a folder of the run's id
            return any(Path(os.environ.get("WANDB_DIR", "."), "wandb").glob(f"offline-run-*-{heading.run_id}"))
        try:
            wandb.Api().run(f"{self._project}/{heading.run_id}")
        except wandb.errors.UsageError as error:
            raise ConfigError(f"Weights & Biases: {error}", "or keep runs here: WANDB_MODE=offline") from error
        except (wandb.errors.CommError, ValueError):
            return False
        return True

    def begin(self, heading: Heading, again: bool) -> _Stream:
        goes_on = again and self.holds(heading)
        try:
            return _Stream(
                wandb.init(
                    project=self._project,
                    id=heading.run_id,
                    name=heading.title,
                    group=heading.experiment,
                    config={**heading.settings, **heading.tags},
                    resume="allow" if goes_on else None,
                    reinit="create_new",  # runs that are trained together are followed together
                    settings=wandb.Settings(x_disable_stats=True, disable_git=True, save_code=False, silent=True),
                ),
                goes_on,
            )
        except (wandb.errors.Error, OSError) as error:
            raise GenbenchError(f"Weights & Biases: {error}") from error


class _Stream(Stepwise):
    def finish(self, record: Record) -> None:
        self._run.summary.update({f"final/{name}": value for name, value in record.finals.items()})
        last = max(record.points, default=0)
        self._run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in record.pictures}, step=last)
        files = wandb.Artifact(f"run-{record.run_id}", "run")
        for path in record.files:
            files.add_file(str(path))
        self._run.log_artifact(files)
        self.leave()


def make(project: str) -> _Wandb:
    """Runs of a project."""
    return _Wandb(project)
