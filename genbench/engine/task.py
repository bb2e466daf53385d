"""What the engine sees of a family of models, and what a family sees of the run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from genbench.engine.measurement import Family, Measurement, Quantity

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["STAGE_TITLES", "Animates", "DrawsSweeps", "FinishedRun", "Record", "Samples", "Stage", "Task"]

Stage = Literal["start", "middle", "end"]
STAGE_TITLES: dict[str, str] = {"start": "before training", "middle": "half way", "end": "after training"}


class Record(Protocol):
    """What a run has logged so far, for pictures."""

    title: str

    def curve(self, metric: str, over: Literal["epoch", "step"] = "epoch") -> list[tuple[float, float]]:
        """(epoch or step, value) of every logged value, in order."""

    def references(self, metric: str) -> list[tuple[str, float]]:
        """(source, published value) pairs."""


class FinishedRun(Protocol):
    """What is known of a run that is done."""

    @property
    def config(self) -> dict[str, Any]:
        """Its whole configuration."""

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """As in `summary.json`: metric → `final` and `best` value, `truth`, `protocol`."""

    def value(self, metric: str) -> float:
        """The final value; NaN where there is none."""

    def task(self) -> Any:
        """The task in its final state."""


class Task(ABC):
    """How a family learns and what it is judged by. A subclass must define how it trains, evaluates, saves and loads;
    everything else has a default. What only some tasks can do are the protocols below."""

    batches_per_step: int = 1
    """Fresh batches that one training step consumes; they arrive concatenated."""

    parts: Any
    """What it was built from: at least `model` and `dataset` (genbench.tasks.base.Parts)."""

    family: ClassVar[Family]
    """The heading under which its runs are compared."""

    quantities: Sequence[Quantity] = ()
    """What it measures, the most telling first. Metrics that are not among them are logged, and no more."""

    protocol: Mapping[str, str] = {}
    """What all its measurements depend on besides the model and the data set."""

    curves: Mapping[str, Sequence[str]] = {}
    """Title → metrics that are drawn over training on one chart."""

    cover: str = ""
    """The picture, as a path in the run directory, that shows best what was learned."""

    def before_training(self) -> None:  # noqa: B027 - most tasks need nothing
        """Called before a run starts: loads what evaluation needs, so that it is missed now and not hours later.

        Raises DataError.
        """

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
    def evaluate(self, split: str) -> dict[str, Measurement]:
        """Judge the networks on "valid" (during training) or "test" (once, at the end): metric → what was measured.

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

    family: ClassVar[Family]

    @staticmethod
    def sweep_figures(runs: Sequence[FinishedRun]) -> dict[str, Figure]:
        """Pictures by name. Raises ConfigError for runs that do not belong together."""
