"""One run: build the components, train, measure, remember."""

from __future__ import annotations

import dataclasses
import math
import platform
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

import genbench
from genbench import registry
from genbench.compose import validate
from genbench.config import Config, Reference, fingerprint, identity, to_dict
from genbench.engine import device as devices
from genbench.engine.batches import Batches, BatchStream, ParallelBatches
from genbench.engine.gradients import forget_compiled
from genbench.engine.interrupts import Interrupted
from genbench.engine.logbook import Logbook
from genbench.engine.rundir import FINISHED, RunDirectory
from genbench.engine.task import Samples, Task
from genbench.engine.trainer import Diverged, Trainer
from genbench.errors import GenbenchError
from genbench.tasks.base import Parts

__all__ = ["Outcome", "build_task", "make_batches", "make_logbook", "run", "run_directory"]

SAMPLED = 64  # images whose drawing is timed
EXIT_CODES = {"done": 0, "failed": 1, "diverged": 3}


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    directory: Path
    status: str
    exit_code: int
    headline: str = ""
    objective: float = math.nan  # for sweepers that optimize: the first reference's metric, else the first metric

    @property
    def interrupted(self) -> bool:
        return self.status == "interrupted"


def run(composed: DictConfig, words: Sequence[str] = ()) -> Outcome:
    """Train and measure what was composed with the overrides `words`; every way it can end is an Outcome."""
    directory = Path(composed.output_root)
    try:
        config = validate(composed, words)
        directory = run_directory(config)
        return _run(config, RunDirectory(directory))
    except GenbenchError as error:
        print(f"genbench: {error}", file=sys.stderr)
        return Outcome(directory, "failed", error.exit_code, str(error).splitlines()[0])
    except Exception as error:  # a bug, or the machine's fault: the next job of a sweep must not suffer from it
        traceback.print_exc()
        return Outcome(directory, "failed", EXIT_CODES["failed"], f"{type(error).__name__}: {error}")


def run_directory(config: Config) -> Path:
    """`<output_root>/<name>/seed<seed>-<fingerprint>`."""
    return Path(config.output_root) / config.name / f"seed{config.seed}-{fingerprint(config)}"


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
        inception_weights=Path(weights) if (weights := config.metrics.inception_weights) else None,
    )
    return registry.build("task", config.task, parts)


def make_logbook(config: Config, run_dir: RunDirectory, task: Task) -> Logbook:
    published: dict[str, list[tuple[str, float]]] = {}
    for reference in config.reference:
        source = reference.source if reference.at == "final" else f"{reference.source}, {reference.at}"
        published.setdefault(reference.metric, []).append((source, reference.value))
    return Logbook(run_dir, f"{config.name} seed {config.seed}", task.directions, published, identity(config))


def _run(config: Config, run_dir: RunDirectory) -> Outcome:
    if run_dir.status in FINISHED:
        return _already_finished(config, run_dir)
    device = devices.resolve(config.device)
    devices.reset_peak_memory(device)
    threads = torch.get_num_threads()
    try:
        task = build_task(config, device)
        with run_dir:
            if run_dir.status in FINISHED:  # by another process, while this one was building
                return _already_finished(config, run_dir)
            return _train(config, run_dir, task, device)
    finally:
        torch.set_num_threads(threads)  # the next job of a sweep may not ask for any number
        forget_compiled()


def _train(config: Config, run_dir: RunDirectory, task: Task, device: torch.device) -> Outcome:
    run_dir.write_config(to_dict(config))
    batches = make_batches(config, task)
    logbook = make_logbook(config, run_dir, task)
    trainer = Trainer(task, batches, run_dir, logbook, config.trainer, device)
    status, note = "done", ""
    commit = _git_commit()  # of the code that is loaded now: the checkout may have moved on when the run ends
    try:
        try:
            trainer.fit()
            note = "\n".join(task.notes(logbook.final_values))
        except Diverged as error:
            status, note = "diverged", str(error)
        summary = _summary(config, task, trainer, status, note, device, commit)
        run_dir.write_summary(summary)
    except Interrupted as signal:
        run_dir.set_status("interrupted", trainer.progress.step, signal=str(signal))
        print(f"genbench: interrupted; the same command resumes from step {trainer.progress.step}", file=sys.stderr)
        return Outcome(run_dir.path, "interrupted", signal.exit_code)
    except Exception as error:
        known = isinstance(error, GenbenchError)
        run_dir.set_status("failed", trainer.progress.step, error=str(error) if known else traceback.format_exc())
        raise
    run_dir.set_status(status, trainer.progress.step, **({"error": note} if status == "diverged" else {}))
    outcome = _outcome(config, run_dir, status, summary)
    print(f"{config.name} seed {config.seed}: {status}. {note if status == 'diverged' else outcome.headline}")
    if note and status != "diverged":
        print("\n".join(f"  note         {line}" for line in note.splitlines()))
    print(f"  pictures     {run_dir.figures}\n  TensorBoard  tensorboard --logdir {run_dir.tensorboard}")
    return outcome


def make_batches(config: Config, task: Task) -> BatchStream:
    """The stream of batches that the task's training steps are fed from."""
    data, trainer = task.parts.dataset.train, config.trainer
    if task.batch_seeds:
        return ParallelBatches(data, trainer.batch_size, task.batch_seeds, trainer.drop_last)
    return Batches(data, trainer.batch_size, config.seed, trainer.drop_last, task.batches_per_step)


def _already_finished(config: Config, run_dir: RunDirectory) -> Outcome:
    try:
        outcome = _outcome(config, run_dir, str(run_dir.status), run_dir.read_summary())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GenbenchError(
            f"{run_dir.path}/summary.json is damaged ({error!r})\n  delete the run directory to repeat the run"
        ) from None
    print(f"{run_dir.path} is {outcome.status} already: {outcome.headline}\n  delete this directory to rerun")
    return outcome


def _outcome(config: Config, run_dir: RunDirectory, status: str, summary: dict[str, Any]) -> Outcome:
    finals = {name: entry["final"]["value"] for name, entry in summary["metrics"].items()}
    published = [reference.metric for reference in config.reference if reference.metric in finals]
    shown = published or [name for name in finals if name.startswith(("valid", "eval"))]
    headline = "  ".join(
        f"{name} {finals[name]:.6g}" for name in dict.fromkeys(shown) if finals.get(name) is not None
    )
    objective = finals.get(shown[0]) if shown else None
    return Outcome(run_dir.path, status, EXIT_CODES[status], headline, math.nan if objective is None else objective)


def _summary(
    config: Config,
    task: Task,
    trainer: Trainer,
    status: str,
    note: str,
    device: torch.device,
    commit: str | None,
) -> dict[str, Any]:
    logbook, progress = trainer.logbook, trainer.progress
    metrics = {
        name: {"final": entry} | ({"best": logbook.best[name]} if name in logbook.best else {})
        for name, entry in logbook.final.items()
    }
    return {
        "name": config.name,
        "seed": config.seed,
        "status": status,
        "note": note,
        "step": progress.step,
        "epoch": trainer.epoch,
        "metrics": metrics,
        "reference": [_compare(reference, metrics) for reference in config.reference],
        "protocol": {"dataset": task.parts.dataset.name, **task.parts.dataset.protocol, **task.protocol},
        **({"members": members} if (members := task.members(logbook.final_values)) else {}),
        "parameters": _parameter_count(task.parts.model),
        "steps_per_second": trainer.steps_per_second,
        **({"samples_per_second": speed} if (speed := _sampling_speed(task)) else {}),
        "training_seconds": progress.seconds,
        "wall_seconds": progress.wall_seconds,
        "peak_memory_mib": devices.peak_memory_mib(device),
        "device": devices.describe(device),
        "arithmetic": trainer.config.precision,
        "captured_graphs": trainer.captured_graphs,
        "versions": _versions(),
        "git_commit": commit,
        "command": shlex.join(["genbench", *sys.argv[1:]]),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _sampling_speed(task: Task) -> float | None:
    """New images a second, of tasks that draw images; 64 at once, what is loaded or planned at first not counted."""
    if not isinstance(task, Samples):
        return None
    task.sample(1, 0, lambda share: None)
    begin = time.perf_counter()
    task.sample(SAMPLED, 0, lambda share: None)  # they end up on the CPU, so the device has finished
    return SAMPLED / (time.perf_counter() - begin)


def _parameter_count(model: torch.nn.Module) -> int:
    """All that are trained; a model whose tensors hold padding says it itself."""
    own = getattr(model, "parameter_count", None)
    return sum(parameter.numel() for parameter in model.parameters()) if own is None else own


def _compare(reference: Reference, metrics: dict[str, Any]) -> dict[str, Any]:
    """The published value next to the measured one; `reached` if it is as good, within the tolerance."""
    measured = metrics.get(reference.metric, {}).get(reference.at, {}).get("value")
    row = dataclasses.asdict(reference) | {"measured": measured, "verdict": reference.verdict(measured)}
    return row if measured is None else row | {"difference": measured - reference.value}


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for package in ("genbench", "torch", "torchvision", "numpy", "hydra-core"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            versions[package] = "not installed"
    return versions


def _git_commit() -> str | None:
    """The commit of this code, `+` if the checkout has changes; None where it is not a checkout."""
    where = Path(genbench.__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(where), *words], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno", ".").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None
