"""Learning rates that rise and fall, through a checkpoint too, and bounded gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as scheduler

from genbench.optimizers.adam import adam
from genbench.optimizers.rmsprop import rmsprop
from genbench.optimizers.sgd import sgd

OPTIMIZERS = pytest.mark.parametrize("build", [adam, rmsprop, sgd])


def rates(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    return found


def check_beside(build: Callable[..., Any], options: dict[str, Any], schedule_of: Callable[[Any], Any]) -> Any:
    """Twelve updates of an optimizer with a schedule, and of a plain one with PyTorch's; returns the former, and its
    parameter."""
    own, other = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    optimizer, plain = build([own], lr=0.4, **options), build([other], lr=0.4)
    schedule = schedule_of(plain)
    expected = []
    for _ in range(12):
        expected += rates(plain, other, 1)
        schedule.step()
    assert rates(optimizer, own, 12) == pytest.approx(expected)
    torch.testing.assert_close(own, other)
    return optimizer, own


@OPTIMIZERS
def test_the_rate_falls_after_each_milestone(build: Callable[..., Any]) -> None:
    options = {"milestones": [3, 5, 5], "decay": 0.5}
    check_beside(build, options, lambda plain: scheduler.MultiStepLR(plain, [3, 5, 5], 0.5))


@OPTIMIZERS
@pytest.mark.parametrize("annealing", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 4])
def test_the_rate_rises_and_falls_to_0(build: Callable[..., Any], annealing: str, warmup: int) -> None:
    """At the end it stays 0."""

    def product(plain: torch.optim.Optimizer) -> Any:
        rise = scheduler.LinearLR(plain, 1 / (warmup or 1), total_iters=max(warmup - 1, 1))
        kinds: dict[str, Any] = {"cosine": scheduler.CosineAnnealingLR, "linear": scheduler.PolynomialLR}
        return scheduler.ChainedScheduler([rise, kinds[annealing](plain, 12)])

    optimizer, own = check_beside(build, {"warmup": warmup, "anneal": 12, "annealing": annealing}, product)
    assert rates(optimizer, own, 3) == pytest.approx([0.0] * 3)


@OPTIMIZERS
def test_a_checkpoint_carries_the_count(build: Callable[..., Any]) -> None:
    one, two = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    first, second = (build([p], lr=0.4, milestones=[3], decay=0.5) for p in (one, two))
    rates(first, one, 2)
    second.load_state_dict(first.state_dict())
    assert rates(second, two, 3) == rates(first, one, 3) == pytest.approx([0.4, 0.2, 0.2])


@pytest.mark.parametrize("size", [0.5, 50.0])
def test_gradients_beyond_the_bound_are_scaled_down_together(size: float) -> None:
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))]
    optimizer = sgd(parameters, lr=1.0, max_norm=2.0)
    gradients = [size * torch.tensor([1.0, 2.0, -2.0]), size * torch.tensor([4.0, 0.0])]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()
    norm = 5 * size  # of (1, 2, −2, 4, 0)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.data, -gradient * min(1.0, 2.0 / norm), rtol=1e-4, atol=1e-6)
