"""What can be known of a run before its first step, checked for all jobs before the first of them runs.

A rehearsal builds the run on PyTorch's meta device, where tensors have shapes and no storage: whatever constructors
of model, loss, regularizer, optimizers and task refuse is refused then, without being written a second time, and the
size of a network is known before it is allocated. The data set alone is real, as its files, sizes and shape decide.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from genbench import ensemble, parents
from genbench.build import assemble, make_batches
from genbench.compose import Request
from genbench.config import Config, to_dict
from genbench.data.loading import load
from genbench.engine import device as devices
from genbench.engine.measurement import objective_among
from genbench.engine.memory import check_memory
from genbench.engine.rundir import FINISHED, RunDirectory, writable
from genbench.engine.task import Task
from genbench.errors import ConfigError, DataError, GenbenchError
from genbench.identity import LONGEST
from genbench.run import run_directory, settled
from genbench.tasks import flow_ensemble
from genbench.trackers import live

__all__ = ["check", "check_run", "rehearse", "writable"]

META = torch.device("meta")
ROOM = 100  # characters, more than those of the longest path within a run directory


def check(requests: Sequence[Request], elsewhere: bool = False) -> None:
    """Raise ConfigError or DataError unless every job can start; downloads what is missing, and writes nothing else.

    What depends on a machine, its data and devices, is left to jobs that run `elsewhere`.
    """
    seen: set[str] = set()
    for request in reversed(requests):  # the first job finds its data set still in memory
        try:
            check_run(request.config, request.words, seen, elsewhere)
        except DataError:
            if not elsewhere:
                raise


def check_run(
    config: Config, words: Sequence[str] = (), seen: set[str] | None = None, elsewhere: bool = False
) -> None:
    """Raise ConfigError or DataError unless this run, or ensemble of runs, can start.

    What is in `seen` was checked before, up to the seed, and is left out; what is checked is added. For a run
    `elsewhere` its device is not looked for.
    """
    seen = set() if seen is None else seen
    config = settled(config)
    runs = [config] if config.ensemble is None else [member.config for member in ensemble.members(config, words)]
    tasks = []
    for run in runs:
        writable(Path(run.output_root), below=len(run.name) + LONGEST + ROOM)
        directory = RunDirectory(run_directory(run))
        if directory.status in FINISHED:
            continue
        if not directory.begun:  # a run with a checkpoint no longer needs its parent
            parents.check(config)  # of each seed: an extended run has one of its own
        if not _new(_without_seed(run), seen):
            continue
        if not elsewhere:
            if run.tracker:
                live.check(run.tracker)
            devices.check_precision(devices.resolve(run.device), run.trainer.precision)
        task = rehearse(run)
        if task is None:
            continue
        if not directory.begun:
            parents.check_weights(task, run)
        tasks.append(task)
        if _new(json.dumps(["task", run.task, run.data_root], sort_keys=True), seen):
            task.before_training()
    if config.ensemble is not None and tasks:
        flow_ensemble.check(tasks)


def rehearse(config: Config) -> Task | None:
    """The task of one run on the meta device; None if one of its components cannot be built without storage.

    Such a component, of a plug-in, is built when its run starts. Raises ConfigError and DataError.
    """
    dataset = load(config.dataset, Path(config.data_root)).to(META)
    try:
        with META:
            task = assemble(config, dataset, META)
    except GenbenchError:
        raise
    except Exception:  # foreign code may ask for values
        return None
    _check_memory(task.parts.model)
    _check_annealing(config, task)
    _check_judged(config, task)
    return task


def _check_memory(model: torch.nn.Module) -> None:
    """Raise ConfigError if parameters and their gradients need more memory than there is, without any activations."""
    needed = 2 * sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    check_memory(needed, "networks and gradients", "choose a smaller model: fewer or narrower layers")


def _check_annealing(config: Config, task: Task) -> None:
    """Raise ConfigError if a learning rate falls to 0 before the training ends: what follows would do nothing."""
    steps = config.trainer.steps(make_batches(config, task).steps_per_epoch)
    updates = {"optimizer": steps}
    if hasattr(task.parts.model, "critic"):
        updates["critic_optimizer" if config.critic_optimizer else "optimizer"] = steps * task.batches_per_step
    for key, made in updates.items():
        until = getattr(config, key).get("anneal")
        if until and until < made:
            raise ConfigError(
                f"{key}.anneal={until} lets the learning rate fall to 0 before the last of {made:,} updates",
                f"set {key}.anneal={made}, or train shorter",
            )


def _check_judged(config: Config, task: Task) -> None:
    """Raise ConfigError for an objective that the task does not measure, and where the configuration has another idea
    than the task of which values are better."""
    if config.objective:
        objective_among(task.quantities, config.objective)
    better = {quantity.name: quantity.better for quantity in task.quantities}
    for reference in config.reference:
        way = better.get(reference.metric)
        if way and way != reference.better:
            raise ConfigError(
                f"reference: of {reference.metric}, {way} values are better, not {reference.better} ones",
                f"add better: {way}",
            )


def _new(key: str, seen: set[str]) -> bool:
    """Whether a key was not in `seen`, where it is from now on."""
    before = len(seen)
    seen.add(key)
    return len(seen) > before


def _without_seed(config: Config) -> str:
    return json.dumps(to_dict(config) | {"seed": None}, sort_keys=True)
