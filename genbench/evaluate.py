"""Finished runs measured again under another protocol, without training."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from genbench import config as schema
from genbench import identity, provenance, registry
from genbench.atomic import write_text
from genbench.config import Config
from genbench.engine.device import isolated_rng, threads
from genbench.engine.measurement import Measurement
from genbench.engine.rundir import EVALUATION_SCHEMA, to_json, writable
from genbench.engine.task import Task
from genbench.errors import ConfigError
from genbench.loaded import LoadedRun
from genbench.naming import closest

__all__ = ["evaluate"]

PLACES = ("device", "data_root", "trainer.threads")
"""Keys that say where and how it is computed, besides the place of the user's own files."""


def evaluate(run: LoadedRun, words: Sequence[str], seeds: Sequence[int] = ()) -> Path:
    """Measure a finished run on the test split again; the file in its `evaluations/` with what was measured.

    Args:
        run: a run that is done.
        words: overrides KEY=VALUE of the task's `evaluation_options`, and of places.
        seeds: of the evaluation's random numbers; with several, means over them with their spread. Default: the
            run's own.

    Raises:
        ConfigError: for a run that is not done, and for overrides that would change the model.
        DataError: if the data set or the network of the scores is missing.
    """
    run.done()
    if run.packed:
        raise ConfigError(f"{run.directory.path} is a packed model", "evaluate its run directory")
    config = _changed(run, words)
    with threads(config.trainer.threads):
        return _evaluate(run, config, seeds)


def _evaluate(run: LoadedRun, config: Config, seeds: Sequence[int]) -> Path:
    writable(run.directory.evaluations, remedy="make it writable, or evaluate a copy of the run")
    found: list[Mapping[str, Measurement]] = []
    for seed in seeds or [config.seed]:
        task, measured = _measured(run, dataclasses.replace(config, seed=seed))
        found.append(measured)
    conditions = task.conditions | ({"sampling_seeds": ", ".join(map(str, seeds))} if len(found) > 1 else {})
    step = run.summary["step"]
    metrics = {name: _entry([measured[name] for measured in found], conditions, step) for name in found[0]}
    changes = {key: now for key, (_, now) in identity.differences(_flat(run.checked()), _flat(config)).items()}
    changes |= {"seed": ",".join(map(str, seeds))} if seeds else {}
    content = {
        "schema": EVALUATION_SCHEMA,
        "run": identity.fingerprint(run.checked()),
        "step": step,
        "changes": changes,
        "quantities": [dataclasses.asdict(quantity) for quantity in task.quantities],
        "metrics": metrics,
        "made_by": provenance.made_by(config, task.parts.device),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    key = hashlib.sha256(json.dumps([changes, content["run"]], sort_keys=True).encode()).hexdigest()[:8]
    path = run.directory.evaluations / f"{key}.json"
    path.parent.mkdir(exist_ok=True)
    write_text(path, to_json(content))
    return path


def _changed(run: LoadedRun, words: Sequence[str]) -> Config:
    """The run's configuration with overrides. Raises ConfigError for those of what was trained."""
    values = copy.deepcopy(run.config)
    allowed = [f"task.{name}" for name in sorted(run.task_class().evaluation_options)]
    places = _places(run.config["dataset"])
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not of the form KEY=VALUE", "see genbench-evaluate --help")
        if key not in (*allowed, *places):
            known = ", ".join([*allowed, *places])
            raise ConfigError(f"{key} is fixed by the training{closest(key, allowed)}", f"choose from: {known}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"{word!r} has no readable value", "see genbench-evaluate --help") from None
        component, _, option = key.rpartition(".")
        (values[component] if component else values)[option] = value
    config, own = schema.read(OmegaConf.create(values)), run.checked()
    config = dataclasses.replace(config, extend=own.extend, init_from=own.init_from)
    given = any(word.startswith("data_root=") for word in words)
    return config if given else dataclasses.replace(config, data_root=own.data_root)


def _places(dataset: Mapping[str, Any]) -> list[str]:
    marks = registry.contents(registry.lookup("dataset", dataset["name"])).values()
    return [*PLACES, *(f"dataset.{mark.place}" for mark in marks)]


def _flat(config: Config) -> dict[str, Any]:
    return identity.without(schema.flatten(schema.to_dict(config)), _places(config.dataset))


def _measured(run: LoadedRun, config: Config) -> tuple[Task, Mapping[str, Measurement]]:
    """The task, and its measurements by metric."""
    task = run.task(config, config.device)
    with isolated_rng(config.seed, task.parts.device):
        task.before_training()
        return task, task.evaluate("test")


def _entry(found: Sequence[Measurement], conditions: Mapping[str, str], step: int) -> dict[str, Any]:
    """As in `summary.json`; of several sampling seeds the mean, with the standard deviation between them."""
    values = [measurement.value for measurement in found]
    mean = math.fsum(values) / len(values)
    entry = found[0].to_summary() | {"final": {"value": mean, "step": step}}
    entry["protocol"] = {**conditions, **found[0].protocol}
    if len(values) > 1:
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        entry |= {"values": values, "spread": spread, "monte_carlo_error": spread / math.sqrt(len(values))}
    return entry
