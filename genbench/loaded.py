"""A finished run, or a packed model, opened again."""

from __future__ import annotations

import dataclasses
import math
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from genbench import config as schema
from genbench import identity, registry
from genbench.build import assemble
from genbench.config import Config
from genbench.data.dataset import Dataset
from genbench.data.loading import load
from genbench.engine import checkpoint
from genbench.engine.device import isolated_rng, resolve
from genbench.engine.measurement import Measurement
from genbench.engine.rundir import RunDirectory
from genbench.engine.task import Task
from genbench.errors import ConfigError, in_one_line
from genbench.identity import WEIGHTS

__all__ = ["WEIGHTS", "LoadedRun"]


# The one in C, where PyYAML was built with it, takes an eighth of the time; the end of a sweep reads all its runs.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class LoadedRun:
    """A run directory with a `config.yaml`, or the folder of a packed model: what it measured, and on demand its task
    as training left it.

    Raises ConfigError for another directory.
    """

    def __init__(self, path: Path) -> None:
        if not (path / "config.yaml").is_file():
            raise ConfigError(f"{path} is not a run directory", "name one like outputs/<experiment>/<run>")
        self.directory = RunDirectory(path)
        try:
            found = yaml.load((path / "config.yaml").read_text(encoding="utf-8"), LOADER)
            self.config: dict[str, Any] = dict(found)
        except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError):
            raise ConfigError(f"{path / 'config.yaml'} is damaged", "train the run again") from None

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`summary.json`; empty where there is none. Raises ConfigError if it is damaged."""
        try:
            return self.directory.read_summary()
        except FileNotFoundError:
            return {}
        except ValueError:
            where = self.directory.path
            raise ConfigError(f"{where / 'summary.json'} is damaged", "repeat the run's command") from None

    @property
    def title(self) -> str:
        """The experiment and what was changed, as in pictures."""
        return str(self.summary.get("title", self.config["name"]))

    @property
    def settings(self) -> dict[str, Any]:
        """What decides its numbers, {dotted key: value}; see `identity.settings`."""
        found: dict[str, Any] = self.summary["settings"]
        return found

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """As in `summary.json`; nothing before the run has ended."""
        found: dict[str, dict[str, Any]] = self.summary.get("metrics", {})
        return found

    def value(self, metric: str) -> float:
        """The final value; NaN where there is none."""
        found = self.metrics.get(metric, {}).get("final", {}).get("value")
        return math.nan if found is None else float(found)

    def measurements(self) -> dict[str, Measurement]:
        """What was measured, with its meaning."""
        return {name: Measurement.from_summary(entry) for name, entry in self.metrics.items() if "protocol" in entry}

    def checked(self, data_root: str | os.PathLike[str] | None = None) -> Config:
        """The configuration, checked; data lie in `data_root`, else in $GENBENCH_DATA, else where they were.

        A run that this one began with is named by what identifies it, as its place may be empty by now.
        Raises ConfigError where today's schema does not know it.
        """
        config = schema.read(OmegaConf.create(self.config))
        root = data_root or os.environ.get("GENBENCH_DATA") or config.data_root
        return dataclasses.replace(config, data_root=str(root), **self._parents())

    def _parents(self) -> dict[str, Any]:
        named = [key for key in identity.PARENTS if self.config.get(key)]
        return {key: self.settings[key] for key in named if self.summary}

    def done(self) -> LoadedRun:
        """Itself. Raises ConfigError unless its training has ended well."""
        status = self.status
        if status != "done":
            remedy = {
                "running": "wait for it, or stop it and repeat its command later",
                "diverged": "its numbers mean nothing: train it with other settings",
            }.get(status or "", "repeat its command: it goes on from its last checkpoint")
            raise ConfigError(f"{self.directory.path} is {status or 'not begun'}, not done", remedy)
        return self

    @property
    def status(self) -> str | None:
        """As in `status.json`; a packed model is what its run was."""
        return self.summary.get("status") if self.packed else self.directory.status

    @property
    def packed(self) -> bool:
        """Whether it is a packed model."""
        return (self.directory.path / WEIGHTS).is_file()

    def dataset(self, config: Config) -> Dataset:
        """What stands for the data set, where its files are not needed: of a data set of tensors, tensors of the same
        shape and kind; else the data set itself."""
        outline = self.summary.get("data")
        return Dataset.stand_in(outline) if outline else load(config.dataset, Path(config.data_root))

    def task(self, config: Config | None = None, device: str = "auto", with_data: bool = True) -> Task:
        """The task in its final state, without changing any global generator.

        `config` replaces the run's own, from which it may differ in nothing that the networks depend on. Without
        data, everything works that needs no file of the data set. Raises ConfigError where there is no good
        checkpoint, and DataError.
        """
        config = self.checked() if config is None else config
        state = None if self.packed else self.state()
        where = resolve(device)
        dataset = load(config.dataset, Path(config.data_root)) if with_data else self.dataset(config)
        with isolated_rng(config.seed, where):
            task = assemble(config, dataset.to(where), where)
        try:
            if state is None:
                task.load_weights(self._packed_weights())
            else:
                task.load_state_dict(state["task"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise ConfigError(
                f"{self.directory.path} does not fit the code, which has changed since: {in_one_line(error)}",
                "go back to the code of that time, or train it again",
            ) from error
        return task

    def task_class(self) -> type[Task]:
        """What trained it. Raises ConfigError for a component that is not registered here."""
        found: Any = registry.lookup("task", self.checked().task["name"])
        return found  # type: ignore[no-any-return]

    def state(self) -> dict[str, Any]:
        """The newest good checkpoint. Raises ConfigError if there is none."""
        told = "has no checkpoint"
        for path in checkpoint.newest_first(self.directory.checkpoints):
            try:
                state = checkpoint.load(path, identity.fingerprint(self.checked()))
            except checkpoint.Unusable as error:
                told = f"has no good checkpoint: {path.name} {error}"
            else:
                return state
        raise ConfigError(f"{self.directory.path} {told}", "train the run again")

    def _packed_weights(self) -> dict[str, dict[str, Any]]:
        """{"model": …, "averaged": …}. Raises ConfigError if the file is damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.directory.path / WEIGHTS
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{path} is damaged: {error}", "pack the run again") from error
        found: dict[str, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            part, _, key = name.partition("/")
            found.setdefault(part, {})[key] = tensor
        return found
