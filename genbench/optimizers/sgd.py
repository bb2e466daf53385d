"""Stochastic gradient descent through torch.optim."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from genbench.optimizers.hooks import Annealing, Decay, Schedule, captured, hooked, number
from genbench.registry import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, register

__all__ = ["sgd"]


@register("optimizer", "sgd")
def sgd(
    parameters: Iterable[nn.Parameter],
    *,
    lr: PositiveFloat = 0.1,
    momentum: NonNegativeFloat = 0.0,
    weight_decay: NonNegativeFloat = 0.0,
    milestones: list[PositiveInt] = [],  # noqa: B006 - never written
    decay: Decay = 0.1,
    warmup: NonNegativeInt = 0,
    anneal: PositiveInt | None = None,
    annealing: Annealing = "cosine",
    max_norm: PositiveFloat | None = None,
) -> torch.optim.Optimizer:
    parameters = list(parameters)
    optimizer = torch.optim.SGD(
        parameters,
        lr=number(lr, parameters),
        momentum=momentum,
        weight_decay=weight_decay,
        fused=len(parameters) > 1 or captured(parameters),  # for a single tensor, to gather them costs more
    )
    return hooked(optimizer, Schedule(lr, milestones, decay, warmup, anneal, annealing), max_norm)
