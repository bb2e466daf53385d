"""What every task is built from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from genbench.data.dataset import Dataset

__all__ = ["MakeOptimizer", "Parts"]

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
