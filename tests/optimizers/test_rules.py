"""Every option of every optimizer reaches the update: six steps beside the rules written out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genbench import registry
from genbench.optimizers.adam import adam
from genbench.optimizers.rmsprop import rmsprop
from genbench.optimizers.sgd import sgd

# Of every optimizer.
SCHEDULE = {"lr": 0.3, "milestones": [2], "decay": 0.5, "warmup": 3, "anneal": 9, "annealing": "linear"}
GRADIENTS = {"max_norm": 2.0, "weight_decay": 0.2}


def average(values: Sequence[Tensor], keep: float) -> Tensor:
    """(1 − c) Σ cⁱ v₋ᵢ: of the values so far, the newest counting most."""
    return (1 - keep) * weighted(values, keep)


def weighted(values: Sequence[Tensor], keep: float) -> Tensor:
    return torch.stack([keep**age * value for age, value in enumerate(reversed(values))]).sum(0)


def by_adam(gradients: Sequence[Tensor], beta1: float, beta2: float, eps: float) -> Tensor:
    """Kingma & Ba 2015, algorithm 1."""
    steps = len(gradients)
    mean = average(gradients, beta1) / (1 - beta1**steps)
    square = average([g**2 for g in gradients], beta2) / (1 - beta2**steps)
    return mean / (square.sqrt() + eps)


def by_rmsprop(gradients: Sequence[Tensor], alpha: float, momentum: float, eps: float) -> Tensor:
    """Tieleman & Hinton 2012, and momentum of what it makes of each gradient."""
    squares = [average([g**2 for g in gradients[: i + 1]], alpha) for i in range(len(gradients))]
    scaled = [g / (square.sqrt() + eps) for g, square in zip(gradients, squares, strict=True)]
    return weighted(scaled, momentum)


def by_sgd(gradients: Sequence[Tensor], momentum: float) -> Tensor:
    """Polyak 1964, the rate outside of the momentum."""
    return weighted(gradients, momentum)


@pytest.mark.parametrize(
    ("build", "rule", "options"),
    [
        (adam, by_adam, {"beta1": 0.5, "beta2": 0.8, "eps": 0.3}),
        (rmsprop, by_rmsprop, {"alpha": 0.6, "momentum": 0.7, "eps": 0.2}),
        (sgd, by_sgd, {"momentum": 0.9}),
    ],
)
@pytest.mark.parametrize("sizes", [[5], [2, 3]])
def test_every_option_reaches_the_update(
    build: Callable[..., Any], rule: Callable[..., Tensor], options: dict[str, Any], sizes: list[int]
) -> None:
    """No option is at its default, and none is left out."""
    schema = registry.parameters(build)
    given = SCHEDULE | GRADIENTS | options
    assert given.keys() == schema.keys()
    assert not [name for name, value in given.items() if value == schema[name].default]

    generator = torch.Generator().manual_seed(0)
    slopes = torch.randn(5, 5, dtype=torch.float64, generator=generator)
    x = torch.randn(5, dtype=torch.float64, generator=generator)
    parameters = [nn.Parameter(part.clone()) for part in x.split(sizes)]
    optimizer = build(parameters, **given)
    seen: list[Tensor] = []
    for step in range(6):
        for parameter, part in zip(parameters, (slopes @ torch.cat(parameters).detach()).split(sizes), strict=True):
            parameter.grad = part
        optimizer.step()

        gradient = slopes @ x
        seen.append(gradient * min(1, 2.0 / math.hypot(*gradient.tolist())) + 0.2 * x)
        rate = 0.3 * (0.5 if step >= 2 else 1) * min(1, (step + 1) / 3) * (1 - step / 9)
        x = x - rate * rule(seen, **options)
        torch.testing.assert_close(torch.cat(parameters).detach(), x, rtol=1e-5, atol=1e-6)
