"""Stochastic gradient descent through torch.optim."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from genbench.registry import NonNegativeFloat, PositiveFloat, register

__all__ = ["sgd"]


@register("optimizer", "sgd")
def sgd(
    parameters: Iterable[nn.Parameter],
    *,
    lr: PositiveFloat = 0.1,
    momentum: NonNegativeFloat = 0.0,
    weight_decay: NonNegativeFloat = 0.0,
) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)
