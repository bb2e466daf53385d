"""Runs that begin with another one: `extend=RUN` goes on with all of it, `init_from=RUN` takes its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from genbench import identity
from genbench.config import Config
from genbench.engine.resume import Parent
from genbench.engine.rundir import RunDirectory
from genbench.engine.task import Task
from genbench.errors import ConfigError
from genbench.loaded import LoadedRun

__all__ = ["check", "check_weights", "entry", "parent_of"]

OTHERWISE = {"trainer.epochs", "trainer.max_steps", *identity.PARENTS}
"""Settings that a run need not share with the one that it extends: its length, and how that one began."""


def check(config: Config) -> None:
    """Raise ConfigError unless the run that this one begins with is there, done and fit for it."""
    if config.extend and config.init_from:
        raise ConfigError("a run begins with one other run", "set extend or init_from, not both")
    if config.ensemble is not None and (config.extend or config.init_from):
        raise ConfigError("an ensemble's members begin anew", "extend its runs one by one, by their own experiments")
    if config.init_from:
        _done(config.init_from)
    if not config.extend:
        return
    parent = _done(config.extend)
    if parent.packed:
        raise ConfigError(f"{config.extend} holds weights alone", "name its run directory, or set init_from")
    for optimizer in filter(None, (config.optimizer, config.critic_optimizer)):
        if optimizer.get("anneal"):
            raise ConfigError(
                f"the learning rate of {config.extend} falls to 0 after {optimizer['anneal']} updates",
                "train the longer run anew, or start from its weights: init_from",
            )
    different = identity.differences(identity.settings(parent.checked()), identity.settings(config))
    if other := [f"{key} (was {was}, is {now})" for key, (was, now) in different.items() if key not in OTHERWISE]:
        raise ConfigError(
            f"{config.extend} had other settings: {', '.join(other)}",
            "extend goes on with the same ones; to train otherwise from these weights, set init_from",
        )
    step, epoch = parent.summary["step"], parent.summary["epoch"]
    if config.trainer.steps(round(step / epoch)) <= step:
        raise ConfigError(
            f"{config.extend} has {step} steps, {epoch:g} epochs, already",
            "set a larger trainer.epochs or trainer.max_steps: the steps in all, not those to be added",
        )


def _done(path: str) -> LoadedRun:
    """The run, or packed model, at a path. Raises ConfigError unless it is done, and called what it is."""
    run = LoadedRun(Path(path)).done()
    if not run.packed:
        digits = identity.fingerprint(run.checked())
        if Path(path).resolve().name.rpartition("-")[2] != digits:  # which identifies it for the runs that follow
            raise ConfigError(f"{path} has been renamed", f"its directory's name must end in -{digits}")
    return run


def check_weights(task: Task, config: Config) -> None:
    """Raise ConfigError unless the weights that `init_from` names are those of such networks."""
    if config.init_from:
        _compare(_weights(config.init_from), task.weights()["model"], config.init_from)


def parent_of(config: Config) -> Parent | None:
    """How the run begins with another one, if it does; the other is opened when that happens."""
    if config.extend:
        return partial(_extend, config.extend)
    if config.init_from:
        return partial(_initialize, config.init_from)
    return None


def _extend(path: str, task: Task) -> tuple[dict[str, Any], str]:
    run = LoadedRun(Path(path))
    return run.state(), f"goes on from {run.title}"


def _initialize(path: str, task: Task) -> tuple[None, str]:
    """Put another run's weights into the networks; averages begin with them. Raises ConfigError."""
    found = _weights(path)
    _compare(found, task.weights()["model"], path)
    task.load_weights({"model": found})
    return None, f"begins with the weights of {LoadedRun(Path(path)).title}"


def entry(config: Config, directory: RunDirectory) -> dict[str, Any] | None:
    """For `summary.json`: how this run began, and with which one, which need not be there any more."""
    if directory.begun:
        with suppress(OSError, ValueError):
            recorded: dict[str, Any] | None = directory.read_summary().get("parent")
            return recorded
    for kind in ("extend", "init_from"):
        if path := getattr(config, kind):
            run = LoadedRun(Path(path))
            return {
                "kind": kind,
                "experiment": run.config["name"],
                "run": Path(path).resolve().name,
                "fingerprint": identity.fingerprint(run.checked()),
                "group": identity.fingerprint(dataclasses.replace(run.checked(), seed=0, extend=None)),
                "step": run.summary.get("step"),
            }
    return None


def _weights(path: str) -> dict[str, Tensor]:
    return LoadedRun(Path(path)).task(device="cpu", with_data=False).weights()["model"]


def _compare(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: str) -> None:
    """Raise ConfigError that names the tensors that do not fit."""
    wrong = [f"{name} {list(wanted[name].shape)} is not there" for name in wanted if name not in found]
    wrong += [f"{name} {list(found[name].shape)} is not in this model" for name in found if name not in wanted]
    wrong += [
        f"{name} is {list(found[name].shape)} and not {list(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ConfigError(
            f"the weights of {path} are of other networks: {', '.join(wrong[:3])}{more}",
            "choose the same model, of the same size",
        )
