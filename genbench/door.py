"""The Python door: trained models for notebooks and scripts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from genbench.data.loading import load as load_dataset
from genbench.engine.task import Decodes, Densities, Encodes, LogProb, Samples, Task, knows_no_classes
from genbench.errors import ConfigError, Unsupported
from genbench.loaded import LoadedRun
from genbench.report import reading

__all__ = ["Row", "Run", "Table", "load", "runs"]

ABILITIES: dict[str, Any] = {
    "sample": Samples,
    "decode": Decodes,
    "interpolate": Decodes,
    "encode": Encodes,
    "reconstruct": Encodes,
    "log_prob": Densities,
}
"""Methods of `Run` that not every family has, and what a task must be for them."""


def load(path: str | os.PathLike[str], device: str = "auto", data_root: str | os.PathLike[str] | None = None) -> Run:
    """A trained model, from a run directory or the folder of a packed model.

    The data set's files are not needed for images and generated data. Global random generators and Hydra are left
    alone, and nothing is executed that a checkpoint holds.

    Args:
        path: such as outputs/vae-mnist5k/seed=1-….
        device: auto, cpu, cuda, cuda:N or mps.
        data_root: where data sets are, for `data` and for models that need theirs; default: $GENBENCH_DATA, else as
            in training.

    Raises:
        ConfigError: if there is no run, or no good checkpoint of it, or it does not fit the code any more.
        DataError: if the data set is needed and missing.
    """
    run = LoadedRun(Path(path))
    config = run.checked(data_root)
    return Run(run, run.task(config, device, with_data=False), Path(config.data_root))


class Run:
    """A trained model, and what is known of its training.

    Images are [N, C, H, W] in [0, 1], points in the plane [N, 2]; a sample alone goes without N. What goes in may be
    an array or a tensor; what comes out is a tensor on the CPU. What a family cannot do raises `Unsupported`.

    Attributes:
        path: the directory.
        task: the task that trained it, with everything that only the family's own code knows.
    """

    def __init__(self, loaded: LoadedRun, task: Task, data_root: Path) -> None:
        self.path = loaded.directory.path
        self.task: Any = task
        self._loaded, self._data_root = loaded, data_root

    @property
    def title(self) -> str:
        """The experiment and what was changed, as in pictures."""
        return self._loaded.title

    @property
    def status(self) -> str | None:
        """done | running | interrupted | failed | diverged."""
        return self._loaded.status

    @property
    def config(self) -> dict[str, Any]:
        """The whole configuration."""
        return self._loaded.config

    @property
    def summary(self) -> dict[str, Any]:
        """All that the run says about itself: `summary.json`."""
        return self._loaded.summary

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The final value of every metric; NaN where it was not finite."""
        return {name: self._loaded.value(name) for name in self._loaded.metrics}

    @property
    def model(self) -> nn.Module:
        """The network; of a GAN the generator that is judged and sampled, averaged where the run has an average."""
        return self.task.network  # type: ignore[no-any-return]

    @property
    def abilities(self) -> list[str]:
        """The methods that this family has."""
        return [name for name, kind in ABILITIES.items() if isinstance(self.task, kind)]

    def curve(self, metric: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(steps, values) of a metric that was logged. Raises KeyError for another one, with those there are."""
        rows = [json.loads(line) for line in self._loaded.directory.metrics.read_text(encoding="utf-8").splitlines()]
        found = [row for row in rows if row["metric"] == metric]
        if not found:
            raise KeyError(f"no metric {metric!r}; there are {', '.join(sorted({row['metric'] for row in rows}))}")
        values = [np.nan if row["value"] is None else row["value"] for row in found]
        return np.array([row["step"] for row in found]), np.array(values)

    def data(self, split: str = "test") -> Tensor:
        """The real samples of train, valid or test, as the model sees them. Raises DataError if they are missing."""
        dataset = load_dataset(self._loaded.checked().dataset, self._data_root)
        return dataset.to_float(dataset.split(split))

    def sample(self, count: int = 64, seed: int = 1, label: int | None = None) -> Tensor:
        """`count` new samples; of a GAN from the averaged generator. The same ones for the same seed and count.

        Those of a class-conditional model have the class frequencies of the data, or are all of the class `label`.
        """
        self._need("sample")
        return self.task.sample(count, seed, label=label)  # type: ignore[no-any-return]

    def latents(self, count: int = 64, seed: int = 1) -> Tensor:
        """[count, …] of the prior, for `decode`."""
        self._need("decode")
        return self.task.latents(count, seed).cpu()  # type: ignore[no-any-return]

    def decode(self, z: ArrayLike | Tensor, label: int | None = None) -> Tensor:
        """Latents [N, …] → samples."""
        self._need("decode")
        return self.task.decode(self._on_device(z), **self._told(label))  # type: ignore[no-any-return]

    def encode(self, x: ArrayLike | Tensor, label: int | None = None) -> Tensor:
        """Samples → latents [N, …]: of a VAE the posterior's mean, of a flow the base point."""
        self._need("encode")
        return self.task.encode(self._samples(x), **self._told(label)).cpu()  # type: ignore[no-any-return]

    def reconstruct(self, x: ArrayLike | Tensor, label: int | None = None) -> Tensor:
        """Samples through their latents and back."""
        self._need("reconstruct")
        return self.decode(self.encode(x, label), label)

    def interpolate(
        self, a: ArrayLike | Tensor, b: ArrayLike | Tensor, steps: int = 9, label: int | None = None
    ) -> Tensor:
        """`steps` samples from a to b, both included, whose latents lie on a line.

        a and b are samples; of a family that has no `encode`, which is that of GANs, latents.
        """
        self._need("interpolate")
        if steps < 2:
            raise ConfigError(f"an interpolation has two ends, and steps={steps}", "ask for at least 2")
        ends = torch.stack([self._tensor(end) for end in (a, b)])
        z = self.encode(ends, label) if isinstance(self.task, Encodes) else ends
        shares = torch.linspace(0, 1, steps).view(-1, *[1] * (z.dim() - 1))
        return self.decode(torch.lerp(z[:1], z[1:], shares), label)

    def log_prob(self, x: ArrayLike | Tensor, samples: int = 1000, label: int | None = None) -> LogProb:
        """log p(x) in nats, [N], and whether it is exact or a bound, which more `samples` make tighter.

        Of a class-conditional model it is log p(x|y), y being `label`.
        """
        self._need("log_prob")
        return self.task.log_prob(self._samples(x), samples, **self._told(label))  # type: ignore[no-any-return]

    def _told(self, label: int | None) -> dict[str, int]:
        """Raises ConfigError for a label that nothing is conditional on."""
        if label is not None and not self.task.parts.classes:
            raise knows_no_classes()
        return {} if label is None else {"label": label}

    def _need(self, ability: str) -> None:
        if not isinstance(self.task, ABILITIES[ability]):
            can = ", ".join(self.abilities) or "nothing but be looked at: model, metrics, curve"
            raise Unsupported(f"{self.title} ({self.task.family.title}) has no {ability}\n  it can {can}")

    def _tensor(self, x: ArrayLike | Tensor) -> Tensor:
        return torch.as_tensor(x, dtype=torch.float32) if not isinstance(x, Tensor) else x.to(torch.float32).cpu()

    def _on_device(self, x: ArrayLike | Tensor) -> Tensor:
        return self._tensor(x).to(self.task.parts.device)

    def _samples(self, x: ArrayLike | Tensor) -> Tensor:
        """On the device. Raises ConfigError for what is no sample of this data set."""
        tensor, dataset = self._tensor(x), self.task.parts.dataset
        if tensor.shape[1:] != dataset.shape or tensor.dim() == 0:
            shape = ", ".join(map(str, dataset.shape))
            raise ConfigError(f"samples here are [N, {shape}], and not {list(tensor.shape)}")
        if len(dataset.shape) == 3 and not (tensor.min() >= 0 and tensor.max() <= 1):
            raise ConfigError("pixels are in [0, 1]", "divide bytes by 255")
        if dataset.binary and not torch.equal(tensor, tensor.round()):
            raise ConfigError(f"{dataset.name} holds pixels of 0 and 1", "binarize grey images: x > 0.5")
        return self._on_device(tensor)

    def __repr__(self) -> str:
        return f"<{self.title}: {self.status}; {', '.join(self.abilities)}>"


@dataclass(frozen=True)
class Row:
    """A run directory, as its `summary.json` and `status.json` tell."""

    path: Path
    experiment: str
    changes: dict[str, str]
    seed: int
    status: str
    step: int
    metrics: dict[str, float | None]
    """Final values, the most telling first."""

    def load(self, device: str = "auto") -> Run:
        """The trained model."""
        return load(self.path, device)


class Table(Sequence[Row]):
    """Runs, in the natural order of their paths.

    Attributes:
        problems: directories that were left out, with the reason.
    """

    def __init__(self, rows: Sequence[Row], problems: Sequence[reading.Problem]) -> None:
        self._rows, self.problems = list(rows), list(problems)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        found = self._rows[index]
        return Table(found, self.problems) if isinstance(index, slice) else found

    def to_pandas(self) -> Any:
        """A pandas.DataFrame: a row for each run, a column for each metric. Raises ImportError without pandas."""
        import pandas as pd

        rows = [
            {"path": str(row.path), "experiment": row.experiment, "seed": row.seed, "status": row.status}
            | {"step": row.step}
            | row.changes
            | row.metrics
            for row in self._rows
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable("experiment", "changes", "seed", "status", "step", "first metric", "value", header_style="")
        for row in self._rows:
            metric, value = next(iter(row.metrics.items()), ("", None))
            changes = ", ".join(f"{key}={word}" for key, word in row.changes.items())
            shown = "" if value is None else f"{value:.6g}"
            table.add_row(row.experiment, changes, str(row.seed), row.status, str(row.step), metric, shown)
        console = Console(width=120, file=StringIO(), force_terminal=False, force_jupyter=False, color_system=None)
        with console.capture() as text:
            console.print(table)
        return text.get()


def runs(*roots: str | os.PathLike[str]) -> Table:
    """All runs below `roots` (default: outputs), without loading any model. Raises ConfigError for a missing root."""
    problems: list[reading.Problem] = []
    paths = reading.find([Path(root) for root in roots or ("outputs",)], problems)
    rows = [_row(run) for run in reading.readable(paths, problems)]
    return Table(rows, problems)


def _row(run: reading.Run) -> Row:
    told = [quantity.name for quantity in run.quantities]
    names = [*(name for name in told if name in run.summary.get("metrics", {})), *run.summary.get("metrics", {})]
    metrics = {name: run.value(name) for name in dict.fromkeys(names)}
    return Row(run.path, run.name, dict(run.summary["changes"]), run.seed, run.state, run.step, metrics)
