"""One run: build the components, train, measure, remember."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from genbench import compose, identity, parents, provenance, summary
from genbench.build import make_batches, ready_task
from genbench.config import Config, to_dict
from genbench.data.loading import settle
from genbench.engine import device as devices
from genbench.engine.checkpoint import Origin
from genbench.engine.gradients import forget_compiled
from genbench.engine.interrupts import Interrupted, Interrupts
from genbench.engine.logbook import Logbook
from genbench.engine.rundir import FINISHED, RunDirectory
from genbench.engine.task import Task
from genbench.engine.trainer import Diverged, Trainer
from genbench.errors import GenbenchError, explained
from genbench.figures.curves import Band, Chart, stacked_curves
from genbench.numerals import duration
from genbench.outcome import Outcome, finished_outcome, of_summary
from genbench.trackers.live import Live

__all__ = [
    "ActiveRun",
    "draw_curves",
    "interrupted",
    "make_logbook",
    "on_device",
    "run",
    "run_directory",
    "settled",
]


def run(config: Config, words: Sequence[str] = ()) -> Outcome:
    """Train and measure what the overrides `words` composed. Raises GenbenchError, and whatever is a bug."""
    run_dir = RunDirectory(run_directory(config))
    if outcome := finished_outcome(run_dir):
        return _already_finished(outcome)
    with Interrupts(resend=True) as interrupts, on_device(config) as device:
        try:
            with interrupts.interruptible():
                task = ready_task(config, device)
        except Interrupted as signal:
            return interrupted(run_dir.path, signal, "before its first step")
        with run_dir:
            if outcome := finished_outcome(run_dir):  # by another process, while this one was building
                return _already_finished(outcome)
            return _train(ActiveRun(config, run_dir, task, device, words), interrupts)


def interrupted(directory: Path, signal: Interrupted, told: str) -> Outcome:
    """What was asked to stop."""
    print(f"genbench: interrupted by {signal} {told}", file=sys.stderr)
    return Outcome(directory, "interrupted", signal.exit_code)


@contextmanager
def on_device(config: Config) -> Iterator[torch.device]:
    """A block that computes on the configuration's device, and leaves the process fit for the next job of a sweep."""
    device = devices.resolve(config.device)
    devices.reset_peak_memory(device)
    try:
        with devices.threads(None):  # the next job may not ask for any number
            yield device
    finally:
        forget_compiled()


def settled(config: Config) -> Config:
    """With what the user's own files hold, which identifies a run. Raises ConfigError and DataError."""
    return replace(config, dataset=settle(config.dataset, Path(config.data_root)))


def run_directory(config: Config) -> Path:
    """`<output_root>/<name>/<changes>-<fingerprint>`: the one that is there, whatever its changes are called."""
    home = Path(config.output_root) / config.name
    expected = home / identity.directory_name(config, _changes(config))
    if expected.is_dir():  # listing thousands of others takes time
        return expected
    return min(home.glob(f"*-{identity.fingerprint(config)}"), default=expected)


def _changes(config: Config) -> dict[str, str]:
    return identity.changes(config, compose.experiment(config.name))


def make_logbook(config: Config, run_dir: RunDirectory, task: Task) -> Logbook:
    changed = _changes(config)
    title = identity.title(config, changed)
    settings = {"Changes": ", ".join(identity.words(changed)) or "none", **identity.settings(config)}
    return Logbook(
        run_dir,
        title,
        family=task.family,
        kind=str(config.task["name"]),
        quantities=task.quantities,
        protocol=task.conditions,
        references=config.reference,
        settings=settings,
        charts=task.curves,
    )


class ActiveRun:
    """A run and what is written beside its training, whoever trains it: `config.yaml`, `summary.json`, the status.

    The directory is locked by whoever makes one. `companions` runs share the process (see Trainer).
    """

    def __init__(
        self,
        config: Config,
        run_dir: RunDirectory,
        task: Task,
        device: torch.device,
        words: Sequence[str],
        companions: int = 1,
    ) -> None:
        self.config, self.run_dir = config, run_dir
        if run_dir.status in FINISHED:
            print(f"{run_dir.path / 'summary.json'} is damaged; the last checkpoint writes it again")
        self._experiment = compose.experiment(config.name)
        run_dir.write_config(to_dict(config))
        logbook, batches = make_logbook(config, run_dir, task), make_batches(config, task)
        origin = Origin(identity.fingerprint(config), provenance.made_by(config, device))
        self._live = Live(config.tracker, run_dir.path)
        self.trainer = Trainer(
            task,
            batches,
            run_dir,
            logbook,
            config=config.trainer,
            device=device,
            seed=config.seed,
            origin=origin,
            companions=companions,
            parent=parents.parent_of(config),
            evaluated=self._live.update,
        )
        self._begun = summary.before(config, self._experiment, task, words, device, parents.entry(config, run_dir))
        run_dir.write_summary(self._begun)
        self.note = ""

    def end(self, diverged: Diverged | None, interrupts: Interrupts) -> Outcome:
        """Training is over: what was measured, or why it broke off. Raises Interrupted, to be done another time."""
        trainer = self.trainer
        status = "diverged" if diverged else "done"
        with interrupts.interruptible():
            self.note = str(diverged) if diverged else "\n".join(trainer.task.notes(trainer.logbook.final_values))
            draw_curves(trainer.task, trainer.logbook)
            ended = summary.after(self._begun, self.config, self._experiment, trainer, status, self.note)
        self.run_dir.write_summary(ended)
        self.run_dir.set_status(status, trainer.progress.step, **({"error": self.note} if diverged else {}))
        self._live.end()
        return of_summary(self.run_dir, status, ended)

    def interrupt(self, signal: Interrupted) -> None:
        """Training was stopped, to go on another time."""
        self.run_dir.set_status("interrupted", self.trainer.progress.step, signal=str(signal))
        self._live.leave()

    def fail(self, error: Exception) -> None:
        """Training ended with an error."""
        known = explained(error)
        told = str(known) if isinstance(known, GenbenchError) else "".join(traceback.format_exception(error))
        with suppress(OSError):  # the disk may be full
            self.run_dir.set_status("failed", self.trainer.progress.step, error=told)
        self._live.leave()


def _train(active: ActiveRun, interrupts: Interrupts) -> Outcome:
    trainer, run_dir = active.trainer, active.run_dir
    try:
        diverged = None
        try:
            trainer.fit(interrupts)
        except Diverged as error:
            diverged = error
        outcome = active.end(diverged, interrupts)
    except Interrupted as signal:
        active.interrupt(signal)
        return interrupted(run_dir.path, signal, f"at step {trainer.progress.step}; the same command goes on from it")
    except Exception as error:
        active.fail(error)
        raise
    told = f"{trainer.logbook.title}: {outcome.status} in {duration(trainer.progress.wall_seconds)}"
    print("\n  ".join([told, *active.note.splitlines()]))
    return outcome


def draw_curves(task: Task, logbook: Logbook, form: str = "png") -> Path | None:
    """`figures/curves-end.png`: what the task draws over training; None where nothing of it was logged."""
    charts: list[Chart] = []
    for title, metrics in task.curves.items():
        rows = {metric: np.array(logbook.curve(metric, "step")).T for metric in metrics}
        bands = [Band(metric, *columns) for metric, columns in rows.items() if columns.size]
        lines = dict(line for metric in metrics for line in logbook.lines(metric))
        charts += [(title, bands, list(lines.items()))] if bands else []
    return logbook.save_figure("curves", stacked_curves(charts, logbook.title), "end", form) if charts else None


def _already_finished(outcome: Outcome) -> Outcome:
    print(f"{outcome.directory} is {outcome.status} already\n  delete this directory to rerun")
    return outcome
