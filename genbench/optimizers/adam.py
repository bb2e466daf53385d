"""Adam (Kingma & Ba 2015, arXiv 1412.6980) through torch.optim, fused into one kernel per step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import torch
from torch import nn

from genbench.optimizers.hooks import Annealing, Decay, Schedule, captured, hooked, number
from genbench.registry import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Range, register

__all__ = ["adam"]

Beta = Annotated[float, Range(minimum=0, below=1)]


@register("optimizer", "adam")
def adam(
    parameters: Iterable[nn.Parameter],
    *,
    lr: PositiveFloat = 1e-3,
    beta1: Beta = 0.9,
    beta2: Beta = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
    milestones: list[PositiveInt] = [],  # noqa: B006 - never written
    decay: Decay = 0.1,
    warmup: NonNegativeInt = 0,
    anneal: PositiveInt | None = None,
    annealing: Annealing = "cosine",
    max_norm: PositiveFloat | None = None,
) -> torch.optim.Optimizer:
    parameters = list(parameters)
    optimizer = torch.optim.Adam(
        parameters,
        lr=number(lr, parameters),
        betas=(beta1, beta2),
        eps=eps,
        weight_decay=weight_decay,
        fused=True,
        capturable=captured(parameters),
    )
    return hooked(optimizer, Schedule(lr, milestones, decay, warmup, anneal, annealing), max_norm)
