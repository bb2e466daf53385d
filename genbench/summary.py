"""`summary.json`: all that a run says about itself, so that whoever compares runs needs to know no family."""

from __future__ import annotations

import dataclasses
import math
import shlex
import time
from collections.abc import Sequence
from typing import Any

import torch

from genbench import identity, provenance
from genbench.config import Config
from genbench.engine import device as devices
from genbench.engine.measurement import Measurement, verdict
from genbench.engine.rundir import SCHEMA
from genbench.engine.task import Samples, Task
from genbench.engine.trainer import Trainer

__all__ = ["after", "before"]

SAMPLED = 64  # samples whose drawing is timed


def before(
    config: Config,
    experiment: Config | None,
    task: Task,
    words: Sequence[str],
    device: torch.device,
    parent: dict[str, Any] | None,
) -> dict[str, Any]:
    """What is known when a run starts.

    `experiment` is its experiment as published, `words` are its overrides, `parent` says which run it begins with.
    """
    changed = identity.changes(config, experiment)
    return {
        "schema": SCHEMA,
        "name": config.name,
        "seed": config.seed,
        "title": identity.title(config, changed),
        "changes": changed,
        "settings": identity.settings(config),
        "family": dataclasses.asdict(task.family),
        "quantities": [dataclasses.asdict(quantity) for quantity in task.quantities],
        "curves": {title: list(metrics) for title, metrics in task.curves.items()},
        "cover": task.cover,
        "parent": parent,
        "data": task.parts.dataset.outline(),
        "parameters": _parameter_count(task.parts.model),
        "device": devices.describe(device),
        "arithmetic": config.trainer.precision,
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "command": shlex.join(["genbench", *words]),
    }


def after(
    begun: dict[str, Any], config: Config, experiment: Config | None, trainer: Trainer, status: str, note: str
) -> dict[str, Any]:
    """`begun` with everything that is known when the run has ended."""
    logbook, progress, task = trainer.logbook, trainer.progress, trainer.task
    metrics = logbook.metrics()
    shortened = experiment is not None and _length(config, trainer) < _length(experiment, trainer)
    rows = []
    for reference in config.reference:
        found = Measurement.from_summary(metrics.get(reference.metric, {}), reference.at)
        said = verdict(reference, found, shortened, status == "diverged")
        measured = found.value if math.isfinite(found.value) else None
        rows.append(dataclasses.asdict(reference) | {"measured": measured, "verdict": said})
    return begun | {
        "status": status,
        "note": note,
        "step": progress.step,
        "epoch": trainer.epoch,
        "shortened": shortened,
        "metrics": metrics,
        "reference": rows,
        "steps_per_second": trainer.steps_per_second,
        **({"samples_per_second": speed} if (speed := _sampling_speed(task)) else {}),
        "training_seconds": progress.seconds,
        "wall_seconds": progress.wall_seconds,
        "peak_memory_mib": devices.peak_memory_mib(trainer.device),
        "captured_graphs": trainer.captured_graphs,
        "stretches": progress.stretches,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _length(config: Config, trainer: Trainer) -> float:
    """Rows that a training as `config` says sees, with the data of `trainer`."""
    size = config.trainer.batch_size
    rows = trainer.batches.steps_per_epoch * trainer.config.batch_size
    limits = (config.trainer.max_steps and config.trainer.max_steps * size, (config.trainer.epochs or 0) * rows)
    return min(limit for limit in limits if limit)


def _sampling_speed(task: Task) -> float | None:
    """New samples a second, of tasks that draw them; 64 at once, what is loaded or planned at first not counted."""
    if not isinstance(task, Samples):
        return None
    task.sample(1, 0)
    begin = time.perf_counter()
    task.sample(SAMPLED, 0)  # they end up on the CPU, so the device has finished
    return SAMPLED / (time.perf_counter() - begin)


def _parameter_count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
