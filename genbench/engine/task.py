"""What the engine sees of a family of models, and what a family sees of the run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["STAGE_TITLES", "Animates", "DrawsSweeps", "Record", "Samples", "Stage", "Task"]

Stage = Literal["start", "middle", "end"]
STAGE_TITLES: dict[str, str] = {"start": "before training", "middle": "half way", "end": "after training"}


class Record(Protocol):
    """What a run has logged so far, for pictures."""

    title: str

    def curve(self, metric: str, over: Literal["epoch", "step"] = "epoch") -> list[tuple[float, float]]:
        """(epoch or step, value) of every logged value, in order."""

    def references(self, metric: str) -> list[tuple[str, float]]:
        """(source, published value) pairs."""


class Task(ABC):
    """How a family learns and what it is judged by. A subclass must define how it trains, evaluates, saves and loads;
    everything else has a default. What only some tasks can do are the protocols below."""

    batches_per_step: int = 1
    """Fresh batches that one training step consumes; they arrive concatenated."""

    batch_seeds: tuple[int, ...] = ()
    """Seeds of independent streams of batches, concatenated for every step; none: one stream, from the run's seed."""

    parts: Any
    """What it was built from: at least `model` and `dataset` (genbench.tasks.base.Parts)."""

    protocol: dict[str, Any]
    """How it is judged, beside the data set's own protocol: part of every result."""

    directions: dict[str, str] = {}
    """Metric name → "higher" or "lower": which way is better. Other metrics have no best value."""

    charts: dict[str, list[str]] = {}
    """Title → metrics that belong on one TensorBoard chart."""

    def prepare_step(self) -> Hashable:
        """Called before every training step: writes what changes from step to step into tensors on the device.

        Steps for which it returns the same value do the same work on the same tensors: on a GPU, one captured step
        stands for them all. A task with few kinds of steps has few graphs.
        """
        return None

    @abstractmethod
    def training_step(self, batch: Tensor) -> dict[str, Tensor]:
        """One update of every player. Returns detached device scalars.

        Nothing but work of the device: it never waits for the device, copies nothing from the host, and changes no
        state but tensors in place, since a captured step is replayed without this code.
        """

    @abstractmethod
    def evaluate(self, split: str) -> dict[str, float]:
        """Judge the networks on "valid" (during training) or "test" (once, at the end).

        Leaves the global random state as it found it.
        """

    def figures(self, stage: Stage, record: Record) -> dict[str, Figure]:
        """Pictures by name."""
        return {}

    def images(self, stage: Stage) -> dict[str, Tensor]:
        """Sample grids by name, [C, H, W] in [0, 1]."""
        return {}

    def notes(self, final: Mapping[str, float]) -> list[str]:
        """What must be said beside the final values: a mode that was lost, a posterior that collapsed."""
        return []

    def members(self, final: Mapping[str, float]) -> list[dict[str, Any]]:
        """Of an ensemble: the experiment, seed and metrics of each of its members, for `summary.json`."""
        return []

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that must survive a crash."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned, on this device or another."""


@runtime_checkable
class Samples(Protocol):
    """A task that draws new images."""

    def sample(self, count: int, seed: int, progress: Callable[[float], None]) -> Tensor:
        """[count, C, H, W] in [0, 1] on the CPU; `progress` is told the share that is done, where it is known."""


@runtime_checkable
class Animates(Protocol):
    """A task with an animation."""

    def animate(self, path: Path, title: str) -> None:
        """Write it as a GIF. Raises ConfigError where this model has none."""


@runtime_checkable
class DrawsSweeps(Protocol):
    """A task whose runs belong in one picture."""

    @staticmethod
    def sweep_figures(runs: Sequence[tuple[dict[str, Any], dict[str, float]]]) -> dict[str, Figure]:
        """Pictures by name, of finished runs as (configuration, final metrics).

        Raises ConfigError for runs that do not belong together.
        """
