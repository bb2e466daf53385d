from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from genbench.regularizers.base import NoRegularizer, Regularizer
from genbench.regularizers.gp import GradientPenalty, LipschitzPenalty, interpolate
from genbench.regularizers.r1 import R1, R1R2, R2

SHAPES = [(5,), (5, 3), (5, 2, 4, 3)]
PENALTIES = [R1(), R2(), R1R2(), GradientPenalty(), LipschitzPenalty()]


def name(regularizer: object) -> str:
    return type(regularizer).__name__ if isinstance(regularizer, Regularizer) else str(regularizer)


def samples(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def linear_critic(weights: torch.Tensor) -> Callable[[Tensor], Tensor]:
    """C(x) = w·x, so ∇C = w everywhere."""
    return lambda x: (x.reshape(len(x), -1) * weights).sum(dim=1)


def quadratic_critic(scale: torch.Tensor) -> Callable[[Tensor], Tensor]:
    """C(x) = s/2·‖x‖², so ∇C = s·x."""
    return lambda x: 0.5 * scale * x.reshape(len(x), -1).square().sum(dim=1)


def mean_square(points: Tensor) -> Tensor:
    return points.reshape(len(points), -1).square().sum(1).mean()


def assert_same(penalty: Tensor, closed_form: Tensor, parameter: Tensor) -> None:
    """In value and in gradient with respect to the critic's parameter."""
    torch.testing.assert_close(penalty, closed_form, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad(value, parameter, retain_graph=True)[0] for value in (penalty, closed_form)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("length", [0.5, 1.0, 3.0])
def test_linear_critic(shape: tuple[int, ...], length: float) -> None:
    real, fake = samples(shape, 1), samples(shape, 2)
    w = samples((real[0].numel(),), 3)
    w = (w * length / w.norm()).requires_grad_()
    norm = w.norm()
    for regularizer, closed_form in (
        (R1(), norm**2),
        (R2(), norm**2),
        (R1R2(), 2 * norm**2),
        (GradientPenalty(), (norm - 1) ** 2),
        (LipschitzPenalty(), (norm - 1).clamp_min(0) ** 2),
    ):
        assert_same(regularizer.penalty(linear_critic(w), real, fake), closed_form, w)


@pytest.mark.parametrize("shape", SHAPES)
def test_quadratic_critic(shape: tuple[int, ...]) -> None:
    real, fake = samples(shape, 1), samples(shape, 2)
    s = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    critic = quadratic_critic(s)
    assert_same(R1().penalty(critic, real, fake), s**2 * mean_square(real), s)
    assert_same(R2().penalty(critic, real, fake), s**2 * mean_square(fake), s)
    assert_same(R1R2().penalty(critic, real, fake), s**2 * (mean_square(real) + mean_square(fake)), s)
    torch.manual_seed(0)
    slopes = s * interpolate(real, fake).reshape(5, -1).norm(dim=1)
    torch.manual_seed(0)
    assert_same(GradientPenalty().penalty(critic, real, fake), (slopes - 1).square().mean(), s)
    torch.manual_seed(0)
    assert_same(LipschitzPenalty().penalty(critic, real, fake), (slopes - 1).clamp_min(0).square().mean(), s)


@pytest.mark.parametrize("shape", SHAPES)
def test_lipschitz_penalty_is_the_two_sided_one_above_slope_one_and_nothing_below(shape: tuple[int, ...]) -> None:
    real = samples(shape, 1)
    slopes = real.reshape(5, -1).norm(dim=1)  # of ‖x‖²/2 where x̂ = x
    steep = torch.tensor(1.1 / slopes.min().item(), dtype=torch.float64, requires_grad=True)
    flat = torch.tensor(0.9 / slopes.max().item(), dtype=torch.float64, requires_grad=True)
    assert_same(
        LipschitzPenalty().penalty(quadratic_critic(steep), real, real),
        GradientPenalty().penalty(quadratic_critic(steep), real, real),
        steep,
    )
    one_sided = LipschitzPenalty().penalty(quadratic_critic(flat), real, real)
    assert one_sided.item() == 0
    assert torch.autograd.grad(one_sided, flat)[0].item() == 0
    assert GradientPenalty().penalty(quadratic_critic(flat), real, real).item() > 0.001


@pytest.mark.parametrize("shape", SHAPES)
def test_interpolates_lie_on_the_line_with_one_epsilon_per_sample(shape: tuple[int, ...]) -> None:
    real, fake = samples(shape, 1), samples(shape, 2)
    epsilon = ((interpolate(real, fake) - fake) / (real - fake)).reshape(5, -1)
    torch.testing.assert_close(epsilon, epsilon[:, :1].expand_as(epsilon))
    assert ((epsilon > 0) & (epsilon < 1)).all()
    assert len(epsilon[:, 0].unique()) == 5


def test_epsilon_is_uniform() -> None:
    torch.manual_seed(0)
    epsilon = interpolate(torch.ones(20_000, dtype=torch.float64), torch.zeros(20_000, dtype=torch.float64))
    quantiles = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    assert (epsilon.sort().values - quantiles).abs().max() < 1.63 / math.sqrt(20_000)  # Kolmogorov's 1 % point


@pytest.mark.parametrize("regularizer", PENALTIES, ids=name)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_nan_where_the_gradient_is_zero(regularizer: Regularizer, shape: tuple[int, ...]) -> None:
    real = samples(shape, 1)
    w = torch.zeros(real[0].numel(), dtype=torch.float64, requires_grad=True)
    penalty = regularizer.penalty(linear_critic(w), real, real)
    (gradient,) = torch.autograd.grad(penalty, w)
    assert penalty.item() == (1 if isinstance(regularizer, GradientPenalty) else 0)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("regularizer", PENALTIES, ids=name)
def test_per_sample_gradients_do_not_mix(regularizer: Regularizer) -> None:
    """One sample at a time, the penalties' mean is that of the batch (no critic layer sees the batch)."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 8), nn.Softplus(), nn.Linear(8, 1), nn.Flatten(0)).double()
    real = samples((5, 3), 1)
    fake = real if isinstance(regularizer, (GradientPenalty, LipschitzPenalty)) else samples((5, 3), 2)
    alone = [regularizer.penalty(critic, real[k : k + 1], fake[k : k + 1]) for k in range(5)]
    torch.testing.assert_close(regularizer.penalty(critic, real, fake), torch.stack(alone).mean())


@pytest.mark.parametrize("regularizer", PENALTIES, ids=name)
@pytest.mark.parametrize("shape", SHAPES)
def test_samples_that_already_require_a_gradient_give_the_same_penalty(
    regularizer: Regularizer, shape: tuple[int, ...]
) -> None:
    """As the adversarial task passes them, so that loss and penalty share the critic's pass over the samples."""
    s = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    real, fake = samples(shape, 1), samples(shape, 2)
    values, seen = [], []
    for wanted in (False, True):
        a, b = (x.clone().requires_grad_(wanted) for x in (real, fake))

        def critic(x: Tensor) -> Tensor:
            seen.append(x)
            return quadratic_critic(s)(x)

        torch.manual_seed(0)
        values.append(regularizer.penalty(critic, a, b))
        assert a.grad is None and b.grad is None
        assert a.requires_grad is wanted and b.requires_grad is wanted
        shared = [x is a or x is b for x in seen]
        assert shared == [wanted and (regularizer.at_real or regularizer.at_fake)] * len(seen)
        seen.clear()
    assert_same(values[1], values[0], s)
    assert values[0] > 0


def test_which_samples_are_shared() -> None:
    """`at_real` and `at_fake` name exactly the samples whose critic pass a penalty can use."""
    real, fake = samples((4, 2), 1).requires_grad_(), samples((4, 2), 2).requires_grad_()
    for regularizer in PENALTIES:
        seen: list[Tensor] = []

        def critic(x: Tensor) -> Tensor:
            seen.append(x)  # noqa: B023 - looked at before the next round
            return x.square().sum(1)

        regularizer.penalty(critic, real, fake)
        assert any(x is real for x in seen) == regularizer.at_real
        assert any(x is fake for x in seen) == regularizer.at_fake


def test_none_is_zero() -> None:
    assert NoRegularizer().penalty(linear_critic(torch.ones(1)), torch.ones(3, 1), torch.ones(3, 1)) == 0
    assert NoRegularizer().coefficient == 0
