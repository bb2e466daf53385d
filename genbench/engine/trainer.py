"""The training loop: steps, and what is due between them. Independent of the model family."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from genbench.config import TrainerConfig
from genbench.engine import checkpoint, resume
from genbench.engine import device as devices
from genbench.engine.batches import Batch, Batches
from genbench.engine.capture import CapturedStep, Step, can_capture
from genbench.engine.console import Reporter
from genbench.engine.interrupts import Interrupted, Interrupts
from genbench.engine.logbook import Logbook, before_the_end
from genbench.engine.measurement import TEST, Measurement, values_of
from genbench.engine.meters import Meters
from genbench.engine.rundir import RunDirectory
from genbench.engine.task import Stage, Task
from genbench.errors import GenbenchError

T = TypeVar("T")

__all__ = ["Diverged", "Progress", "Trainer", "take_steps", "uncaptured"]


MOST_CHECKPOINTS = 100
"""In a run that does not say how often to save."""


class Diverged(Exception):
    """A loss or a parameter is NaN or infinite."""


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0
    seconds: float = 0.0  # spent in training steps
    wall_seconds: float = 0.0  # with evaluation and pictures; both count all sessions of the run together
    stretches: list[dict[str, Any]] = field(default_factory=list)
    """What computed from which step on: `from`, and what checkpoint.Origin names."""


def take_steps(
    step: Callable[[], None], count: int, interrupts: Interrupts, precision: str, device: torch.device
) -> float:
    """`count` training steps, fewer if a signal comes, without waiting for the device before the last; in seconds."""
    begin = time.perf_counter()
    with devices.tf32(precision == "tf32"):
        for _ in range(count):
            if interrupts.pending is not None:
                break
            step()
        devices.synchronize(device)
    return time.perf_counter() - begin


class Trainer:
    """Trains a task in a run directory; continues where the newest good checkpoint left off.

    Between steps it does what is due, in this order: log, evaluate, draw, save. What was done at which step is
    part of the checkpoint, so a run that is stopped anywhere goes on without leaving out or repeating anything.

    `fit` is all of it. Where runs are trained together (genbench.engine.lockstep), somebody else takes the steps and
    calls the pieces of `fit`; `companions` runs then share the seconds that pass. A run with a `parent` begins with
    that one, unless it has a checkpoint of its own. `evaluated` is called after each evaluation.

    What the task measures and draws between steps has its own random numbers, from `seed`, and is what a signal may
    interrupt: neither it nor a signal changes what is trained.
    """

    def __init__(
        self,
        task: Task,
        batches: Batches,
        run: RunDirectory,
        logbook: Logbook,
        *,
        config: TrainerConfig,
        device: torch.device,
        seed: int,
        origin: checkpoint.Origin,
        companions: int = 1,
        parent: resume.Parent | None = None,
        evaluated: Callable[[], None] = lambda: None,
    ) -> None:
        self.task, self.batches, self.run, self.logbook = task, batches, run, logbook
        self.config, self.device, self._companions = config, device, companions
        self._seed, self._origin, self._parent, self._evaluated = seed, origin, parent, evaluated
        self.progress = Progress()
        self.total_steps = config.steps(batches.steps_per_epoch)
        evaluate = config.evaluate_every or batches.steps_per_epoch
        evaluations = math.ceil(self.total_steps / evaluate / MOST_CHECKPOINTS)  # from one checkpoint to the next
        self.intervals = {
            "log": config.log_every,
            "valid": evaluate,
            "save": config.checkpoint_every or evaluations * evaluate,
        }
        # Of a single step the middle is 0, too: there the start counts.
        self.stages: dict[int, Stage] = {self.total_steps // 2: "middle", 0: "start", self.total_steps: "end"}
        self._done = {"log": 0, "valid": -1 if config.evaluate_first else 0, "draw": -1, "save": 0, "test": -1}
        self.meters = Meters()
        self.captured_step: CapturedStep | None = None
        self._clock = time.perf_counter()
        self._saved = False

    def fit(self, interrupts: Interrupts) -> None:
        """Run to the end. Raises Diverged or Interrupted, in both cases with the run fit to be looked at."""
        watched = self.logbook.headline
        with Reporter(self.logbook.title, self.total_steps, watched.name if watched else "") as reporter:
            self.begin(interrupts, reporter)
            if self.captures:
                self.captured_step = CapturedStep(self.task.training_step, say=reporter.say)
            try:
                while not self.between_steps():
                    self._train(self.next_stop())
            except Interrupted:
                self.save()
                raise
            except Diverged:
                self.logbook.conclude()  # a sweep's table has it too
                raise
            finally:
                self.logbook.close()

    def begin(self, interrupts: Interrupts, reporter: Reporter) -> None:
        """Go back to the newest good checkpoint, if there is one."""
        self._interrupts, self._reporter = interrupts, reporter
        self._restore()
        self.run.set_status("running", self.progress.step)

    def between_steps(self) -> bool:
        """Do what is due at this step; True at the end of the training. Raises Diverged and Interrupted."""
        self._interrupts.check()
        if self._is_due("log"):
            self._log()
        if self._is_due("valid"):
            self._evaluate("valid")
        if self.progress.step in self.stages and self._done["draw"] < self.progress.step:
            self._draw(self.stages[self.progress.step])
        if self._is_due("save"):
            self.save()
        if self.progress.step < self.total_steps:
            return False
        if self.progress.step == self.total_steps and self._done["test"] < self.progress.step:
            self._evaluate("test")
        self.logbook.conclude()
        self._tick()
        self._interrupts.check()  # what was measured last is saved, too
        return True

    def next_stop(self) -> int:
        """The next step at which something is due."""
        step = self.progress.step
        due = [(step // interval + 1) * interval for interval in self.intervals.values()]
        return min([self.total_steps, *due, *(stage for stage in self.stages if stage > step)])

    def _train(self, stop: int) -> None:
        """Training steps up to step `stop`."""
        prepare, training_step = self.task.prepare_step, self.captured_step or uncaptured(self.task.training_step)
        next_batch, add, progress = self.batches.next, self.meters.add, self.progress

        def step() -> None:
            add(training_step(next_batch(), prepare()))
            progress.step += 1

        count = stop - progress.step
        progress.seconds += take_steps(step, count, self._interrupts, self.config.precision, self.device)

    def _is_due(self, event: str) -> bool:
        step = self.progress.step
        return self._done[event] < step and (step % self.intervals[event] == 0 or step == self.total_steps)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.progress.wall_seconds += (now - self._clock) / self._companions
        self._clock = now

    @property
    def captures(self) -> bool:
        """Whether its training steps are to be captured."""
        return self.config.capture and can_capture(self.device)

    @property
    def captured_graphs(self) -> int:
        """Kinds of training steps that were captured."""
        return self.captured_step.count if self.captured_step else 0

    @property
    def epoch(self) -> float:
        return self.progress.step / self.batches.steps_per_epoch

    @property
    def steps_per_second(self) -> float:
        return self.progress.step / self.progress.seconds if self.progress.seconds else 0.0

    def _measure(self, hook: Callable[[], T]) -> T:
        """What a hook of the task returns."""
        with devices.isolated_rng(self._seed, self.device), self._interrupts.interruptible():
            return hook()

    def _log(self) -> None:
        values = self.meters.read()
        self._write(values)
        self._done["log"] = self.progress.step
        self._reporter.advance(self.logbook.title, self.progress.step, values, self.steps_per_second)

    def _evaluate(self, split: str) -> None:
        found = self._measure(lambda: self.task.evaluate(split))
        if split == "test":
            found |= self.task.look_back(self.logbook)
        # What was measured at this step already, on the other split, does not depend on the split.
        measured = {name: row for name, row in found.items() if not self.logbook.has(name, self.progress.step)}
        values = values_of(measured)
        self.logbook.measurements |= measured
        self._write(values)
        self._done[split] = self.progress.step
        self._reporter.measured(self.logbook.title, self.progress.step, self.epoch, values)
        with self._interrupts.interruptible():
            self._evaluated()

    def _write(self, values: dict[str, float]) -> None:
        self.logbook.scalars(values, self.progress.step, self.epoch, self.progress.seconds)
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(f"{name} is {value} at step {self.progress.step}")

    def _draw(self, stage: Stage) -> None:
        figures = self._measure(lambda: self.task.figures(stage, self.logbook))
        images = self._measure(lambda: self.task.images(stage))
        for name, figure in figures.items():
            self.logbook.figure(name, figure, stage, self.progress.step)
        for name, image in images.items():
            self.logbook.image(name, image, stage, self.progress.step)
        self._done["draw"] = self.progress.step

    def save(self) -> None:
        """Save everything, unless a parameter is not finite: the last good checkpoint is worth more."""
        step = self.progress.step
        if not _all_finite(self.task.state_dict()):
            raise Diverged(f"a parameter is not finite at step {step}")
        self._done["save"] = step
        self._tick()
        state = {
            "run": self._origin.run,
            **self._state(),
            "logs": self.logbook.state_dict(),
        }
        path = checkpoint.save(self.run.checkpoints, step, state, self.config.keep_checkpoints)
        if not self._saved:
            self._saved = True
            try:
                checkpoint.load(path, self._origin.run)
            except checkpoint.Unusable as error:  # now, not when the run resumes
                raise TypeError(
                    f"state_dict() holds what torch.load(weights_only=True) refuses: {error.__cause__}"
                ) from error

    def _state(self) -> dict[str, Any]:
        """All that training goes on from."""
        return {
            "progress": asdict(self.progress),
            "done": dict(self._done),
            "meters": self.meters.state_dict(),
            "task": self.task.state_dict(),
            "batches": self.batches.state_dict(),
            "rng": devices.rng_state(self.device),
            "measurements": {name: asdict(measurement) for name, measurement in self.logbook.measurements.items()},
        }

    def _take_up(self, state: Mapping[str, Any]) -> None:
        self.progress = Progress(**state["progress"])
        self._done = dict(state["done"])
        self.meters.load_state_dict(state["meters"], self.device)
        self.task.load_state_dict(state["task"])
        self.batches.load_state_dict(state["batches"])
        devices.set_rng_state(state["rng"], self.device)
        self.logbook.measurements = {name: Measurement(**row) for name, row in state["measurements"].items()}

    def _begin_with(self, parent: resume.Parent) -> None:
        """What was the end of another run is the middle of this one."""
        state, told = parent(self.task)
        if state is None:
            self.logbook.open()
            self._reporter.say(told)
            return
        name = "the end of the run that is extended"
        try:
            resume.fit(name, state, self._origin, self._take_up)
        except checkpoint.Unusable as error:
            raise GenbenchError(f"{name} {error}\n  train the longer run anew") from error
        self._done |= {"draw": self.progress.step - 1, "test": -1}
        self.logbook.measurements = {
            name: found for name, found in self.logbook.measurements.items() if not name.startswith(TEST)
        }
        self.task.start_again()
        self.logbook.open(before_the_end(state["logs"]))  # the files themselves are the other run's
        step, total = self.progress.step, self.total_steps
        self._reporter.say(f"{told} at step {step}: {total} steps in all, {total - step} more")

    def _restore(self) -> None:
        say = self._reporter.say
        state = resume.restore(self.run.checkpoints, self._origin, self._state, self._take_up, say)
        if state is None and self._parent is not None:
            self._begin_with(self._parent)
        else:
            for line in self.logbook.open(state["logs"] if state else None):
                say(line)
        if state:
            say(f"{self.logbook.title}  resumes from step {self.progress.step}")
        progress = self.progress
        progress.stretches = resume.go_on(progress.stretches, progress.step, self._origin.made_by, say)


def uncaptured(step: Step) -> Callable[[Batch, Hashable], dict[str, Tensor]]:
    """A step that is called as a captured one is."""
    return lambda batch, variant: step(*batch)


def _all_finite(state: Any) -> bool:
    """However many tensors there are, each device is waited for once."""
    flags: dict[torch.device, list[torch.Tensor]] = {}
    for tensor in _numbers(state):
        flags.setdefault(tensor.device, []).append(torch.isfinite(tensor).all())
    return all(bool(torch.stack(found).all()) for found in flags.values())


def _numbers(state: Any) -> Iterator[torch.Tensor]:
    """The tensors of floating point numbers in nested dictionaries and lists."""
    if isinstance(state, torch.Tensor):
        if state.is_floating_point():
            yield state
    elif isinstance(state, (dict, list, tuple)):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _numbers(value)
