"""An ensemble: ordinary runs, each in its own directory, that are trained together as one batched model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from genbench import compose, identity, sweeps
from genbench.build import ready_task
from genbench.config import LARGEST_SEED, Config, Ensemble, flatten, to_dict
from genbench.data.dataset import Dataset
from genbench.engine.interrupts import Interrupted, Interrupts
from genbench.engine.lockstep import Lockstep
from genbench.engine.rundir import RunDirectory
from genbench.engine.task import Task
from genbench.engine.trainer import Diverged, Trainer
from genbench.errors import ConfigError
from genbench.outcome import Outcome, finished_outcome, table
from genbench.run import ActiveRun, interrupted, on_device, run_directory
from genbench.tasks import flow_ensemble

__all__ = ["Member", "build_tasks", "members", "run"]

EQUAL = ("trainer", "optimizer", "deterministic", "task.compile")
OF_THE_ENSEMBLE = ("experiment", "seed", "ensemble")  # keys that its runs do not take over as they are


@dataclass(frozen=True)
class Member:
    """A run of an ensemble, and the words that compose it alone."""

    config: Config
    words: tuple[str, ...]


def members(config: Config, words: Sequence[str] = ()) -> list[Member]:
    """The runs of an ensemble: its experiments under the same overrides `words`, with consecutive seeds.

    Raises ConfigError where one of them does not exist, or where they cannot be trained together.
    """
    ensemble = config.ensemble
    assert ensemble is not None
    _check(config.seed, ensemble)
    kept = [word for word in words if compose.key_of(word).partition(".")[0] not in OF_THE_ENSEMBLE]
    found = []
    for name in ensemble.experiments:
        try:
            own = compose.configuration(f"experiment={name}", *kept)
        except ConfigError as error:
            raise ConfigError(f"{config.name}: {name}: {error}") from error
        if own.ensemble is not None:
            raise ConfigError(f"ensemble.experiments: {name} is an ensemble itself")
        own = replace(own, data_root=config.data_root, output_root=config.output_root, device=config.device)
        for seed in range(config.seed, config.seed + ensemble.replicas):
            alone = (f"experiment={name}", *kept, f"seed={seed}")
            found.append(Member(replace(own, seed=seed), alone))
    for member in found:
        _check_equal(found[0].config, member.config)
    return found


def run(config: Config, words: Sequence[str] = ()) -> Outcome:
    """Train and measure those runs of an ensemble that are not done. Raises GenbenchError, and whatever is a bug."""
    all_of_them = members(config, words)
    directories = [RunDirectory(run_directory(member.config)) for member in all_of_them]
    going = [pair for pair in zip(all_of_them, directories, strict=True) if not finished_outcome(pair[1])]
    with Interrupts(resend=True) as interrupts, on_device(config) as device, ExitStack() as locks:
        notes: list[str] = []
        if going:
            try:
                with interrupts.interruptible():
                    tasks = build_tasks([member for member, _ in going], device)
            except Interrupted as signal:
                return interrupted(Path(config.output_root), signal, "before the first step")
            for _, directory in going:
                locks.enter_context(directory)
            running = [
                ActiveRun(member.config, directory, task, device, member.words, companions=len(going))
                for (member, directory), task in zip(going, tasks, strict=True)
                if not finished_outcome(directory)  # by another process, while this one was building
            ]
            if running and (stopped := _train(config.name, running, interrupts)):
                told = f"in training; the same command goes on with all of {config.name}"
                return interrupted(Path(config.output_root), stopped, told)
            notes = [
                f"  note         {one.trainer.logbook.title}: {line}"
                for one in running
                for line in one.note.splitlines()
            ]
    outcomes = [outcome for directory in directories if (outcome := finished_outcome(directory))]
    print("\n".join([f"{config.name}: {table('runs', outcomes)}", *notes]))
    if going:
        sweeps.show(directory.path for directory in directories)
    if len(going) < len(directories):
        print(f"  {len(directories) - len(going)} were done before; delete their directories to rerun them")
    return Outcome.of_many(outcomes)


def build_tasks(found: Sequence[Member], device: torch.device) -> list[Task]:
    """The task of each, on shared data where they are the same. Raises ConfigError for tasks of another kind."""
    data: dict[str, Dataset] = {}
    tasks = []
    for member in found:
        key = json.dumps(member.config.dataset, sort_keys=True)
        task = ready_task(member.config, device, data.get(key))
        data[key] = task.parts.dataset
        tasks.append(task)
    flow_ensemble.check(tasks)
    return tasks


def _train(title: str, running: Sequence[ActiveRun], interrupts: Interrupts) -> Interrupted | None:
    """All of them to their end, unless a signal comes."""
    unfinished = dict(enumerate(running))

    def together(trainers: Sequence[Trainer]) -> flow_ensemble.FlowEnsemble:
        batches = [run.batches for run in trainers]
        tasks = flow_ensemble.check([run.task for run in trainers])
        return flow_ensemble.FlowEnsemble(tasks, batches, running[0].config.task["compile"])

    def ended(index: int, diverged: Diverged | None) -> None:
        unfinished[index].end(diverged, interrupts)
        del unfinished[index]

    try:
        Lockstep(title, [one.trainer for one in running], together, ended).fit(interrupts)
    except Interrupted as signal:
        for one in unfinished.values():
            one.interrupt(signal)
        return signal
    except Exception as error:
        for one in unfinished.values():
            one.fail(error)
        raise
    return None


def _check(seed: int, ensemble: Ensemble) -> None:
    names = ensemble.experiments
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"ensemble.experiments must name each experiment once, and at least one: {names}")
    if seed + ensemble.replicas - 1 > LARGEST_SEED:
        raise ConfigError(f"ensemble.replicas: the last seed would be above {LARGEST_SEED}")


def _check_equal(first: Config, other: Config) -> None:
    """Steps that are taken together are of one length and of one graph, compiled or not; one optimizer takes them."""
    sides = []
    for flat in (flatten(to_dict(config)) for config in (first, other)):
        sides.append({key: flat[key] for part in EQUAL for key in flat if f"{key}.".startswith(f"{part}.")})
    for key, (one, two) in identity.differences(*sides).items():
        raise ConfigError(f"the runs of an ensemble differ in {key}: {one} in {first.name}, {two} in {other.name}")
