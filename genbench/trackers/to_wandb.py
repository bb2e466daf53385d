"""Weights & Biases: a run's hash is its id. With WANDB_MODE=offline it lies in ./wandb until `wandb sync`."""

from __future__ import annotations

import os
from pathlib import Path

import wandb

from genbench.errors import ConfigError, GenbenchError
from genbench.trackers.record import Record

__all__ = ["make"]


class _Wandb:
    def __init__(self, project: str) -> None:
        self._project = project

    def holds(self, record: Record) -> bool:
        if os.environ.get("WANDB_MODE") == "offline":  # what is not yet sent lies in a folder of the run's id
            return any(Path(os.environ.get("WANDB_DIR", "."), "wandb").glob(f"offline-run-*-{record.run_id}"))
        try:
            wandb.Api().run(f"{self._project}/{record.run_id}")
        except wandb.errors.UsageError as error:
            raise ConfigError(f"Weights & Biases: {error}", "or keep runs here: WANDB_MODE=offline") from error
        except (wandb.errors.CommError, ValueError):
            return False
        return True

    def push(self, record: Record) -> None:
        try:
            run = wandb.init(
                project=self._project,
                id=record.run_id,
                name=record.title,
                group=record.experiment,
                config={**record.settings, **record.tags},
                settings=wandb.Settings(x_disable_stats=True, disable_git=True, save_code=False, silent=True),
            )
        except (wandb.errors.Error, OSError) as error:
            raise GenbenchError(f"Weights & Biases: {error}") from error
        for step, row in record.points.items():
            run.log(dict(row), step=step)
        run.summary.update({f"final/{name}": value for name, value in record.finals.items()})
        last = max(record.points, default=0)
        run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in record.pictures}, step=last)
        files = wandb.Artifact(f"run-{record.run_id}", "run")
        for path in record.files:
            files.add_file(str(path))
        run.log_artifact(files)
        run.finish()


def make(project: str) -> _Wandb:
    """Runs of a project."""
    return _Wandb(project)
