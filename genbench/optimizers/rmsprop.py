"""RMSprop (Tieleman & Hinton 2012, lecture 6.5 of "Neural Networks for Machine Learning") through torch.optim."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from genbench.optimizers.hooks import Annealing, Decay, Schedule, captured, hooked, number
from genbench.registry import NonNegativeFloat, NonNegativeInt, OpenUnitFloat, PositiveFloat, PositiveInt, register

__all__ = ["rmsprop"]


@register("optimizer", "rmsprop")
def rmsprop(
    parameters: Iterable[nn.Parameter],
    *,
    lr: PositiveFloat = 1e-2,
    alpha: OpenUnitFloat = 0.99,
    eps: PositiveFloat = 1e-8,
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
    optimizer = torch.optim.RMSprop(
        parameters,
        lr=number(lr, parameters),
        alpha=alpha,
        eps=eps,
        momentum=momentum,
        weight_decay=weight_decay,
        capturable=captured(parameters),
        foreach=captured(parameters) or None,  # the single-tensor kernel reads the learning rate on the host
    )
    return hooked(optimizer, Schedule(lr, milestones, decay, warmup, anneal, annealing), max_norm)
