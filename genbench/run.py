"""One run: build the components, train, measure, remember."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from genbench import compose, identity, registry, summary
from genbench.config import Config, to_dict
from genbench.engine import device as devices
from genbench.engine.batches import Batches
from genbench.engine.gradients import forget_compiled
from genbench.engine.interrupts import Interrupted
from genbench.engine.logbook import Logbook
from genbench.engine.rundir import FINISHED, RunDirectory
from genbench.engine.task import Task
from genbench.engine.trainer import Diverged, Trainer
from genbench.errors import GenbenchError
from genbench.figures.report import Band, Chart, stacked_curves
from genbench.tasks.base import Parts

__all__ = ["Outcome", "build_task", "draw_curves", "make_batches", "make_logbook", "run", "run_directory"]

HEADLINE = 3  # quantities that a line has room for
EXIT_CODES = {"done": 0, "failed": 1, "diverged": 3}


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    directory: Path
    status: str
    exit_code: int
    headline: str = ""
    objective: float = math.nan  # for sweepers that optimize: the first reference's metric, else the first quantity

    @property
    def interrupted(self) -> bool:
        return self.status == "interrupted"


def run(composed: DictConfig, words: Sequence[str] = ()) -> Outcome:
    """Train and measure what was composed with the overrides `words`; every way it can end is an Outcome."""
    directory = Path(composed.output_root)
    try:
        config = compose.validate(composed, words)
        directory = run_directory(config)
        return _run(config, RunDirectory(directory), words)
    except GenbenchError as error:
        print(f"genbench: {error}", file=sys.stderr)
        return Outcome(directory, "failed", error.exit_code, str(error).splitlines()[0])
    except Exception as error:  # a bug, or the machine's fault: the next job of a sweep must not suffer from it
        traceback.print_exc()
        return Outcome(directory, "failed", EXIT_CODES["failed"], f"{type(error).__name__}: {error}")


def run_directory(config: Config) -> Path:
    """`<output_root>/<name>/<changes>-<fingerprint>`: the one that is there, whatever its changes are called."""
    home = Path(config.output_root) / config.name
    there = sorted(home.glob(f"*-{identity.fingerprint(config)}"))
    return there[0] if there else home / identity.directory_name(config, _changes(config))


def _changes(config: Config) -> dict[str, str]:
    return identity.changes(config, compose.experiment(config.name))


def build_task(config: Config, device: torch.device) -> Task:
    """The task with all its components on `device`, as `genbench.engine.device.resolve` returned it, seeded.

    Raises ConfigError and DataError.
    """
    devices.seed_everything(config.seed, config.deterministic)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    devices.check_precision(device, config.trainer.precision)
    dataset = registry.build("dataset", config.dataset, Path(config.data_root)).to(device)
    model = registry.build("model", config.model, dataset.shape)
    model = model.to(device, memory_format=devices.training_layout(device))
    critic_optimizer = config.critic_optimizer or config.optimizer
    parts = Parts(
        model=model,
        loss=registry.build("loss", config.loss),
        regularizer=registry.build("regularizer", config.regularizer),
        dataset=dataset,
        make_optimizer=lambda parameters: registry.build("optimizer", config.optimizer, parameters),
        make_critic_optimizer=lambda parameters: registry.build("optimizer", critic_optimizer, parameters),
        device=device,
        seed=config.seed,
        batch_size=config.trainer.batch_size,
        precision=config.trainer.precision,
        data_root=Path(config.data_root),
    )
    task: Task = registry.build("task", config.task, parts)
    return task


def make_logbook(config: Config, run_dir: RunDirectory, task: Task) -> Logbook:
    dataset = task.parts.dataset
    protocol = {"dataset": dataset.name, **dataset.protocol, **task.protocol}
    title = identity.title(config, _changes(config))
    return Logbook(run_dir, title, task.quantities, protocol, config.reference, identity.settings(config))


def make_batches(config: Config, task: Task) -> Batches:
    """The stream of batches that the task's training steps are fed from."""
    rows, trainer = task.parts.dataset.train, config.trainer
    return Batches(rows, trainer.batch_size, config.seed, trainer.drop_last, task.batches_per_step)


def _run(config: Config, run_dir: RunDirectory, words: Sequence[str]) -> Outcome:
    if run_dir.status in FINISHED:
        return _already_finished(run_dir)
    device = devices.resolve(config.device)
    devices.reset_peak_memory(device)
    threads = torch.get_num_threads()
    try:
        task = build_task(config, device)
        task.before_training()
        with run_dir:
            if run_dir.status in FINISHED:  # by another process, while this one was building
                return _already_finished(run_dir)
            return _train(config, run_dir, task, device, words)
    finally:
        torch.set_num_threads(threads)  # the next job of a sweep may not ask for any number
        forget_compiled()


def _train(config: Config, run_dir: RunDirectory, task: Task, device: torch.device, words: Sequence[str]) -> Outcome:
    run_dir.write_config(to_dict(config))
    logbook = make_logbook(config, run_dir, task)
    trainer = Trainer(task, make_batches(config, task), run_dir, logbook, config.trainer, device)
    experiment = compose.experiment(config.name)
    begun = summary.before(config, experiment, task, words, device)
    run_dir.write_summary(begun)
    status, note = "done", ""
    try:
        try:
            trainer.fit()
            note = "\n".join(task.notes(logbook.final_values))
        except Diverged as error:
            status, note = "diverged", str(error)
        draw_curves(task, logbook)
        ended = summary.after(begun, config, experiment, trainer, status, note)
        run_dir.write_summary(ended)
    except Interrupted as signal:
        run_dir.set_status("interrupted", trainer.progress.step, signal=str(signal))
        print(f"genbench: interrupted; the same command resumes from step {trainer.progress.step}", file=sys.stderr)
        return Outcome(run_dir.path, "interrupted", signal.exit_code)
    except Exception as error:
        known = isinstance(error, GenbenchError)
        run_dir.set_status("failed", trainer.progress.step, error=str(error) if known else traceback.format_exc())
        raise
    run_dir.set_status(status, trainer.progress.step, **({"error": note} if status == "diverged" else {}))
    outcome = _outcome(run_dir, status, ended)
    print(f"{logbook.title}: {status}. {note if status == 'diverged' else outcome.headline}")
    if note and status != "diverged":
        print("\n".join(f"  note         {line}" for line in note.splitlines()))
    print(f"  pictures     {run_dir.figures}\n  TensorBoard  tensorboard --logdir {run_dir.tensorboard}")
    return outcome


def draw_curves(task: Task, logbook: Logbook) -> Path | None:
    """`figures/curves-end.png`: whatever the task draws over training; None where nothing of it was logged."""
    charts: list[Chart] = []
    for title, metrics in task.curves.items():
        rows = {metric: np.array(logbook.curve(metric, "step")).T for metric in metrics}
        bands = [Band(metric, *columns) for metric, columns in rows.items() if columns.size]
        charts += [(title, bands, ())] if bands else []
    return logbook.save_figure("curves", stacked_curves(charts, logbook.title), "end") if charts else None


def _already_finished(run_dir: RunDirectory) -> Outcome:
    try:
        outcome = _outcome(run_dir, str(run_dir.status), run_dir.read_summary())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GenbenchError(
            f"{run_dir.path}/summary.json is damaged ({error!r})\n  delete the run directory to repeat the run"
        ) from None
    print(f"{run_dir.path} is {outcome.status} already: {outcome.headline}\n  delete this directory to rerun")
    return outcome


def _outcome(run_dir: RunDirectory, status: str, ended: dict[str, Any]) -> Outcome:
    finals = {name: entry["final"]["value"] for name, entry in ended["metrics"].items()}
    published = [row["metric"] for row in ended["reference"]]
    shown = [name for name in dict.fromkeys(published) if finals.get(name) is not None]
    if not shown:
        names = [quantity["name"] for quantity in ended["quantities"]]
        shown = [name for name in names if finals.get(name) is not None][:HEADLINE]
    headline = "  ".join(f"{name} {finals[name]:.6g}" for name in shown)
    return Outcome(run_dir.path, status, EXIT_CODES[status], headline, finals[shown[0]] if shown else math.nan)
