"""What the engine sees of a family of models, and what a family sees of the run."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from genbench.engine.batches import Batch
from genbench.engine.measurement import Family, Measurement, Quantity
from genbench.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure
    from torch import Tensor, nn

__all__ = [
    "STAGE_TITLES",
    "Animates",
    "Decodes",
    "Densities",
    "DrawsSweeps",
    "Encodes",
    "FinishedRun",
    "LogProb",
    "Progress",
    "Record",
    "Samples",
    "Stage",
    "Task",
    "alike",
    "differing",
    "knows_no_classes",
    "unseen",
]

Stage = Literal["start", "middle", "end"]
STAGE_TITLES: dict[str, str] = {"start": "before training", "middle": "half way", "end": "after training"}

Progress = Callable[[float], None]
"""Told which share of something is done."""


def unseen(share: float) -> None:
    """Progress that nobody watches."""


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
    def settings(self) -> dict[str, Any]:
        """Of the configuration what decides its numbers, {dotted key: value}."""

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """As in `summary.json`: metric → `final` and `best` value, `truth`, `protocol`."""

    def value(self, metric: str) -> float:
        """The final value; NaN where there is none."""

    def task(self) -> Any:
        """The task in its final state."""


def alike(run: FinishedRun, *but: str) -> str:
    """Equal for runs that differ in nothing but these settings."""
    return json.dumps({key: value for key, value in run.settings.items() if key not in but}, sort_keys=True)


def differing(runs: Sequence[FinishedRun], told: Collection[str]) -> list[list[str]]:
    """Of each run, as KEY=VALUE, the settings in which these runs differ, but for those that are told anyway.

    Options of a component that another one does not have are told by the component's name.
    """
    found: list[list[str]] = [[] for _ in runs]
    for key in dict.fromkeys(key for run in runs for key in run.settings if key not in told):
        values = {k: json.dumps(run.settings[key]).strip('"') for k, run in enumerate(runs) if key in run.settings}
        if len(set(values.values())) > 1 or (key.endswith(".name") and len(values) < len(runs)):
            for k, value in values.items():
                found[k].append(f"{key.removesuffix('.name')}={value}")
    return found


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

    evaluation_options: ClassVar[frozenset[str]] = frozenset()
    """Options of its constructor that change how it is judged, and not what it learns."""

    cover: str = ""
    """The picture, as a path in the run directory, that shows best what was learned."""

    @property
    def conditions(self) -> dict[str, str]:
        """What holds of all its measurements, for their protocols: of the data set, and its own."""
        return {**self.parts.dataset.conditions, **self.protocol}

    @property
    def training_data(self) -> Batch:
        """Tensors [N, …] on the device whose rows a training step consumes, the same rows of each; by default the
        training split alone."""
        return (self.parts.dataset.train,)

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
    def training_step(self, *batch: Any, **unused: Any) -> dict[str, Tensor]:
        """One training step, of a GAN all critic updates and then the generator's. Returns detached device scalars.

        It has a parameter for each tensor of `training_data`, usually one, `batch`. (The signature here only lets an
        override name them.)

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

    def look_back(self, record: Record) -> dict[str, Measurement]:
        """What the whole training shows, once it is over: measured together with the test split."""
        return {}

    def notes(self, final: Mapping[str, float]) -> list[str]:
        """What must be said beside the final values: a mode that was lost, a posterior that collapsed."""
        return []

    @property
    def network(self) -> nn.Module:
        """What the trained model is: of a GAN the generator that is judged and sampled."""
        found: nn.Module = self.parts.model
        return found

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """The networks' parameters and buffers, without optimizers: "model", and "averaged" where an average of the
        generator is what is judged and sampled."""
        found: dict[str, Tensor] = self.parts.model.state_dict()
        return {"model": found}

    def load_weights(self, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take up what `weights` returned; without "averaged", averaging starts anew."""
        self.parts.model.load_state_dict(weights["model"])

    def start_again(self) -> None:  # noqa: B027 - most tasks remember nothing
        """Called when a run goes on that was at its end: forget what belongs to its middle and its end."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that must survive a crash."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned, on this device or another."""


def knows_no_classes() -> ConfigError:
    """To be raised where a model without classes is given a label."""
    return ConfigError(
        "this model knows no classes, and was asked for one of them",
        "ask for no label, or for a run with model.conditional=true",
    )


class Samples(ABC):
    """A task that draws new samples; mixed into its class.

    The random numbers of all samples are drawn first, and turned into samples `chunk` rows at a time: rounding may
    depend on how many are computed together, and so it does not depend on how many are asked for. The labels that a
    class-conditional model is given are one more column of them.
    """

    parts: Any

    chunk: int = 500
    """Rows that are computed together."""

    @property
    def scoring_seed(self) -> int:
        """Seed of the samples that are scored; others are shown."""
        return int(self.parts.seed) + 1

    @abstractmethod
    def noise(self, count: int, seed: int) -> tuple[Tensor, ...]:
        """All random numbers of `count` samples, with one row in each tensor for every sample."""

    def labels(self, count: int, seed: int, label: int | None = None) -> Batch:
        """What a class-conditional model is told of `count` samples: one tensor of `label`, or of random labels as
        frequent as in the training split; of any other model, no tensor.

        Raises ConfigError for a class that the model does not know.
        """
        if label is not None:
            raise knows_no_classes()
        return ()

    @abstractmethod
    def from_noise(self, *noise: Tensor, progress: Progress = unseen) -> Tensor:
        """Rows of noise, and of labels → images [N, C, H, W] in [0, 1], or points [N, D], on the CPU.

        `progress` is told the share that is done, where it is known.
        """

    def sample(self, count: int, seed: int, progress: Progress = unseen, label: int | None = None) -> Tensor:
        """`count` samples, as `from_noise` returns them; of one class, if a label is given."""
        import torch

        return torch.cat(list(self.chunks(count, seed, progress, label=label)))

    def chunks(
        self, count: int, seed: int, progress: Progress = unseen, skip: int = 0, label: int | None = None
    ) -> Iterator[Tensor]:
        """The same samples, `chunk` at a time, without the first `skip` chunks."""
        noise = (*self.noise(count, seed), *self.labels(count, seed, label))
        for first in range(skip * self.chunk, count, self.chunk):
            rows = [column[first : first + self.chunk] for column in noise]

            def of_all(share: float, first: int = first, size: int = len(rows[0])) -> None:
                progress((first + share * size) / count)

            yield self.from_noise(*rows, progress=of_all)
            of_all(1.0)


@runtime_checkable
class Decodes(Protocol):
    """A task whose samples are made from latents that mean something: neighbours look alike.

    A class-conditional one takes a `label`, too, here and in the protocols below, and raises ConfigError without it.
    """

    def latents(self, count: int, seed: int) -> Tensor:
        """[count, …] of the prior, on the device."""

    def decode(self, z: Tensor) -> Tensor:
        """Latents [N, …] on the device → samples [N, …] on the CPU, images in [0, 1]."""


@runtime_checkable
class Encodes(Decodes, Protocol):
    """A task that finds the latents of a sample, too."""

    def encode(self, x: Tensor) -> Tensor:
        """Samples [N, …] on the device, images in [0, 1] → latents [N, …]."""


class LogProb(NamedTuple):
    """log p(x) of samples, and what it is."""

    value: Tensor
    """[N], nats, float64, on the CPU."""

    kind: str
    """ "exact", or what kind of bound."""


@runtime_checkable
class Densities(Protocol):
    """A task with a likelihood."""

    def log_prob(self, x: Tensor, samples: int) -> LogProb:
        """Of samples [N, …] on the device, images in [0, 1]; bounds are tighter for more importance `samples`."""


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
