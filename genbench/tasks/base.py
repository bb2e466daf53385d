"""What every task is built from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genbench.data.dataset import Dataset
from genbench.engine.gradients import Gradients, Objective
from genbench.errors import ConfigError

__all__ = ["MakeOptimizer", "Parts", "require", "require_float32", "require_images"]

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Parts:
    """The components of a run, built and on their device; which of them a task uses is its own affair."""

    model: Any
    loss: Any
    regularizer: Any
    dataset: Dataset
    make_optimizer: MakeOptimizer
    make_critic_optimizer: MakeOptimizer
    device: torch.device
    seed: int
    batch_size: int
    precision: str
    data_root: Path
    drop_last: bool = False

    @property
    def classes(self) -> int:
        """That the model is conditional on, as it says by its attribute `classes`; else 0."""
        return int(getattr(self.model, "classes", 0))

    def smallest_batch(self, per_step: int = 1) -> int:
        """Rows of an epoch's smallest batch, where a training step takes `per_step` of them."""
        rest = len(self.dataset.train) % self.batch_size
        return self.batch_size if self.drop_last or per_step > 1 or not rest else rest

    def gradients(self, objective: Objective, network: nn.Module, compile: bool) -> Gradients:
        """What computes an objective and its gradients for all of a network's parameters, compiled if asked for."""
        return Gradients(objective, network.parameters(), compile_for=self.batch_size if compile else None)


def require(component: Any, group: str, task: str, *names: str) -> None:
    """Raise ConfigError if a component lacks what a task needs of it: they do not belong together."""
    missing = [name for name in names if not hasattr(component, name)]
    if missing:
        raise ConfigError(
            f"task={task} cannot use this {group}: {type(component).__name__} has no {', '.join(missing)}",
            f"choose another {group}, or another task",
        )


def require_images(dataset: Dataset, task: str) -> None:
    """Raise ConfigError if a sample is not an image, [C, H, W]."""
    if len(dataset.shape) != 3:
        raise ConfigError(
            f"task={task} is for images, and {dataset.name} holds none", "set dataset=mnist5k, mnist or cifar10"
        )


def require_float32(parts: Parts, task: str) -> None:
    """Raise ConfigError if the run asks for bfloat16, for tasks that do not know it."""
    if parts.precision == "bf16":
        raise ConfigError(f"task={task} does not compute in bf16", "set trainer.precision=fp32, or tf32 on CUDA")
