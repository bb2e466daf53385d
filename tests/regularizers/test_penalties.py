from __future__ import annotations

import pytest
import torch

from genbench.regularizers.gp import GradientPenalty, interpolate
from genbench.regularizers.none import NoRegularizer
from genbench.regularizers.r1 import R1

SHAPES = [(5,), (5, 3), (5, 2, 4, 3)]


def samples(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def linear_critic(weights: torch.Tensor):  # type: ignore[no-untyped-def]
    """C(x) = w·x, so ∇C = w everywhere."""
    return lambda x: (x.reshape(len(x), -1) * weights).sum(dim=1)


def quadratic_critic(scale: torch.Tensor):  # type: ignore[no-untyped-def]
    """C(x) = s/2·‖x‖², so ∇C = s·x."""
    return lambda x: 0.5 * scale * x.reshape(len(x), -1).square().sum(dim=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_critic(shape: tuple[int, ...]) -> None:
    real, fake = samples(shape, 1), samples(shape, 2)
    w = samples((real[0].numel(),), 3).requires_grad_()
    norm = w.norm()
    for regularizer, closed_form in ((R1(), norm**2), (GradientPenalty(), (norm - 1) ** 2)):
        penalty = regularizer.penalty(linear_critic(w), real, fake)
        torch.testing.assert_close(penalty, closed_form, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            torch.autograd.grad(penalty, w)[0],
            torch.autograd.grad(closed_form, w, retain_graph=True)[0],
            rtol=1e-10,
            atol=1e-10,
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_quadratic_critic(shape: tuple[int, ...]) -> None:
    real, fake = samples(shape, 1), samples(shape, 2)
    s = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    r1 = R1().penalty(quadratic_critic(s), real, fake)
    torch.testing.assert_close(r1, s**2 * real.reshape(5, -1).square().sum(1).mean(), rtol=1e-10, atol=1e-10)
    torch.manual_seed(0)
    points = interpolate(real, fake)
    torch.manual_seed(0)
    gp = GradientPenalty().penalty(quadratic_critic(s), real, fake)
    expected = (s * points.reshape(5, -1).norm(dim=1) - 1).square().mean()
    torch.testing.assert_close(gp, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_interpolates_lie_on_the_line_with_one_epsilon_per_sample(shape: tuple[int, ...]) -> None:
    real, fake = samples(shape, 1), samples(shape, 2)
    epsilon = ((interpolate(real, fake) - fake) / (real - fake)).reshape(5, -1)
    torch.testing.assert_close(epsilon, epsilon[:, :1].expand_as(epsilon))
    assert ((epsilon > 0) & (epsilon < 1)).all()
    assert len(epsilon[:, 0].unique()) == 5


@pytest.mark.parametrize("regularizer", [R1(), GradientPenalty()])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_nan_where_the_gradient_is_zero(regularizer, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    real = samples(shape, 1)
    w = torch.zeros(real[0].numel(), dtype=torch.float64, requires_grad=True)
    penalty = regularizer.penalty(linear_critic(w), real, real)
    (gradient,) = torch.autograd.grad(penalty, w)
    assert torch.isfinite(penalty)
    assert torch.isfinite(gradient).all()


def test_none_is_zero() -> None:
    assert NoRegularizer().penalty(linear_critic(torch.ones(1)), torch.ones(3, 1), torch.ones(3, 1)) == 0
