"""Several runs trained together, each in its own run directory: one step of a batched model is a step of each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Protocol

import torch
from torch import Tensor

from genbench.engine.batches import Batch
from genbench.engine.capture import CapturedStep, Step
from genbench.engine.console import Reporter
from genbench.engine.interrupts import Interrupted, Interrupts
from genbench.engine.trainer import Diverged, Trainer, take_steps, uncaptured

__all__ = ["VALUES", "Batched", "Lockstep"]

VALUES = "values"
"""The entry of a batched training step's values that is there to be logged."""


class Batched(Protocol):
    """Copies of the models, optimizers and batches of several runs that are at the same step, as one."""

    metrics: list[str]
    """What each run calls the value that it logs."""

    def next(self) -> Batch:
        """What one training step consumes."""

    def prepare_step(self) -> Hashable:
        """As of a task."""

    @property
    def training_step(self) -> Step:
        """As of a task, but VALUES is a vector with one value for each run."""

    def write_back(self) -> None:
        """Give the tasks and the batches of all runs what they would have after the steps that were taken."""


class Lockstep:
    """Does with each of the runs what `Trainer.fit` does with one.

    Where they have got to different steps, those behind catch up first. A run that diverges ends, the others go on.

    Args:
        title: of all of them.
        together: makes one model of runs at the same step.
        ended: called with the position of a run that is at its end, and with the reason if it diverged.
    """

    def __init__(
        self,
        title: str,
        trainers: Sequence[Trainer],
        together: Callable[[Sequence[Trainer]], Batched],
        ended: Callable[[int, Diverged | None], None],
    ) -> None:
        self._title, self._trainers, self._together, self._ended = title, list(trainers), together, ended
        self._going: list[Trainer] = []
        self._group: list[Trainer] = []

    def fit(self, interrupts: Interrupts) -> None:
        """Run to the end of all. Raises Interrupted, with all of them fit to go on."""
        self._interrupts = interrupts
        total = max(trainer.total_steps for trainer in self._trainers)
        with Reporter(self._title, total, runs=len(self._trainers)) as self._reporter:
            try:
                for trainer in self._trainers:
                    trainer.begin(interrupts, self._reporter)
                    self._going.append(trainer)
                for trainer in self._trainers:
                    self._do_what_is_due(trainer)
                while self._going:
                    self._advance()
            except Interrupted:
                for trainer in self._going:
                    with suppress(Diverged):  # its last good checkpoint is worth more
                        trainer.save()
                raise
            finally:
                for trainer in self._trainers:
                    trainer.logbook.close()

    def _do_what_is_due(self, trainer: Trainer) -> None:
        diverged = None
        try:
            if not trainer.between_steps():
                return
        except Diverged as error:
            diverged = error
        if diverged:
            trainer.logbook.conclude()
        self._ended(self._trainers.index(trainer), diverged)
        self._going.remove(trainer)

    def _advance(self) -> None:
        """Train the runs that are furthest behind, to the next step at which something is due or others are."""
        steps = [trainer.progress.step for trainer in self._going]
        group = [trainer for trainer in self._going if trainer.progress.step == min(steps)]
        if group != self._group:
            self._form(group)
        ahead = [step for step in steps if step > min(steps)]
        self._train(min([*ahead, *(trainer.next_stop() for trainer in group)]))
        for trainer in group:
            self._do_what_is_due(trainer)

    def _form(self, group: list[Trainer]) -> None:
        self._group, self._batched = group, self._together(group)
        config, step = group[0].config, self._batched.training_step
        captured = CapturedStep(step, say=self._reporter.say) if group[0].captures else None
        for trainer in group:
            trainer.captured_step = captured
        self._step: Callable[[Batch, Hashable], dict[str, Tensor]] = captured or uncaptured(step)
        self._precision, self._device = config.precision, group[0].device

    def _train(self, stop: int) -> None:
        batched, metrics, begun = self._batched, self._batched.metrics, self._group[0].progress.step
        # Each run's sum goes on from its own, so that it is what it would be without stops in between.
        sums = torch.stack(
            [run.meters.sum(metric, self._device) for run, metric in zip(self._group, metrics, strict=True)]
        )
        taken = 0

        def step() -> None:
            nonlocal taken
            sums.add_(self._step(batched.next(), batched.prepare_step())[VALUES])
            taken += 1

        seconds = take_steps(step, stop - begun, self._interrupts, self._precision, self._device)
        batched.write_back()
        for trainer, metric, total in zip(self._group, metrics, sums.unbind(), strict=True):
            trainer.meters.put(metric, total, taken)
            trainer.progress.step += taken
            trainer.progress.seconds += seconds / len(self._group)
