"""A finished run, opened again."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from genbench import compose, identity
from genbench.config import Config
from genbench.engine import checkpoint
from genbench.engine.device import resolve
from genbench.engine.measurement import Measurement
from genbench.engine.rundir import RunDirectory
from genbench.engine.task import Task
from genbench.errors import ConfigError
from genbench.run import build_task

__all__ = ["LoadedRun"]


class LoadedRun:
    """A run directory with a `config.yaml`, what it measured, and on demand its task as training left it.

    Raises ConfigError for another directory.
    """

    def __init__(self, path: Path) -> None:
        if not (path / "config.yaml").is_file():
            raise ConfigError(f"{path} is not a run directory", "name one like outputs/<experiment>/<run>")
        self.directory = RunDirectory(path)
        self.config: dict[str, Any] = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """As in `summary.json`; nothing before the run has ended."""
        found: dict[str, dict[str, Any]] = json.loads(
            (self.directory.path / "summary.json").read_text(encoding="utf-8")
        ).get("metrics", {})
        return found

    def value(self, metric: str) -> float:
        """The final value; NaN where there is none."""
        found = self.metrics.get(metric, {}).get("final", {}).get("value")
        return math.nan if found is None else float(found)

    def measurements(self) -> dict[str, Measurement]:
        """What was measured, with its meaning."""
        return {name: Measurement.from_summary(entry) for name, entry in self.metrics.items() if "protocol" in entry}

    def checked(self) -> Config:
        """The configuration, checked. Raises ConfigError where today's schema does not know it."""
        return compose.validate(OmegaConf.create(self.config))

    def task(self) -> Task:
        """The task with the state of the newest checkpoint. Raises ConfigError where there is none."""
        config = self.checked()
        for path in checkpoint.newest_first(self.directory.checkpoints):
            with suppress(checkpoint.Unusable):
                state = checkpoint.load(path, identity.fingerprint(config))
                task = build_task(config, resolve("auto"))
                task.load_state_dict(state["task"])
                return task
        raise ConfigError(f"{self.directory.path} has no good checkpoint", "train the run first")
