"""Every row of the table against f itself, which is written out here and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from genbench import registry
from genbench.losses.f_divergence import FDivergence

LOSSES = {loss.symbol: loss for loss in FDivergence.__subclasses__()}
ROWS = list(LOSSES)


class Truth(NamedTuple):
    """f and f′ (Nowozin et al. 2016, table 1, and their appendix for f′), and the score v with g(v) = f′(u)."""

    f: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    score: Callable[[Tensor], Tensor]
    scores: tuple[float, ...]  # where the conjugate is compared: g(v) is to be within the slopes of f


LARGE = 30.0  # ½ tanh(30) is ½ to the last digit of a float64
TRUTH = {
    "squared_hellinger": Truth(
        lambda u: (u.sqrt() - 1).square(), lambda u: 1 - u.rsqrt(), lambda u: u.log() / 2, (-2, -0.5, 0, 0.3, 1, 3)
    ),
    "kl": Truth(lambda u: torch.xlogy(u, u), lambda u: u.log() + 1, lambda u: u.log() + 1, (-4, -1, 0, 0.7, 1, 4)),
    "reverse_kl": Truth(lambda u: -u.log(), lambda u: -1 / u, lambda u: u.log(), (-4, -1, 0, 0.7, 1, 4)),
    "pearson_chi2": Truth(  # below −2, f* of the table is that of a parabola that goes on left of u = 0
        lambda u: (u - 1).square(), lambda u: 2 * (u - 1), lambda u: 2 * (u - 1), (-1.9, -1, 0, 0.5, 1, 6)
    ),
    "total_variation": Truth(
        lambda u: (u - 1).abs() / 2,
        lambda u: (u - 1).sign() / 2,
        lambda u: LARGE * (u - 1).sign(),
        (-5, -1, -0.1, 0, 0.4, 2, 5),
    ),
}


def float64(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


# Two Gaussians on a grid: every divergence of them in the table is finite.
GRID = torch.linspace(-16, 16, 64_001, dtype=torch.float64)
LOG_P = -GRID.square() / 2 - math.log(2 * math.pi) / 2
LOG_Q = -((GRID - 0.6) / 1.2).square() / 2 - math.log(2 * math.pi) / 2 - math.log(1.2)
CELL = (GRID[1] - GRID[0]).item()
P, Q = LOG_P.exp() * CELL, LOG_Q.exp() * CELL
RATIO = (LOG_P - LOG_Q).exp()

# And two distributions over three points, for what a loss sees: samples.
P3 = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
Q3 = torch.tensor([0.1, 0.4, 0.5], dtype=torch.float64)


def samples(values: Tensor, weights: Tensor) -> Tensor:
    """Each value as often as its probability says."""
    return values.repeat_interleave((10 * weights).round().long())


def bound(name: str, v: Tensor) -> float:
    """E_p g(v) − E_q f*(g(v)) by quadrature."""
    return ((P * LOSSES[name].activation(v)).sum() - (Q * LOSSES[name].conjugate(v)).sum()).item()


def divergence(name: str) -> float:
    """∫ q f(p/q) by quadrature."""
    return (Q * TRUTH[name].f(RATIO)).sum().item()


@pytest.mark.parametrize("name", ROWS)
def test_f_vanishes_at_one_and_its_slope_is_the_written_one(name: str) -> None:
    """So that the other tests compare with what they mean to."""
    truth = TRUTH[name]
    u = torch.tensor([0.2, 0.7, 1.5, 4.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(truth.f(u).sum(), u)
    torch.testing.assert_close(truth.slope(u.detach()), slope)
    torch.testing.assert_close(LOSSES[name].activation(truth.score(u.detach())), slope, rtol=1e-12, atol=1e-12)
    assert truth.f(float64(1.0)).item() == 0


@pytest.mark.parametrize("name", ROWS)
def test_conjugate_is_the_supremum_over_lines(name: str) -> None:
    """f*(t) = sup_u u t − f(u): a coarse grid over u ∈ [0, ∞), then Brent's method around its best point."""
    f = TRUTH[name].f
    for v in TRUTH[name].scores:
        t = LOSSES[name].activation(float64(v)).item()

        def below(log_u: float, t: float = t) -> float:
            u = float64(log_u).exp()
            return (f(u) - u * t).item()

        grid = np.linspace(-25, 12, 371)
        best = grid[np.argmin([below(x) for x in grid])]
        found = minimize_scalar(below, bounds=(best - 0.1, best + 0.1), method="bounded", options={"xatol": 1e-9})
        supremum = max(-found.fun, -below(best), -f(float64(1e-300)).item())
        assert LOSSES[name].conjugate(float64(v)).item() == pytest.approx(supremum, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("name", ROWS)
def test_bound_is_tight_at_the_optimal_critic(name: str) -> None:
    """g(v) = f′(p/q) (Nowozin et al. 2016, eq. 5)."""
    assert P.sum().item() == pytest.approx(1, abs=1e-10)
    assert Q.sum().item() == pytest.approx(1, abs=1e-10)
    optimal = TRUTH[name].score(RATIO)
    assert bound(name, optimal) == pytest.approx(divergence(name), rel=1e-8)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        center, scale = 3 * torch.randn(2, generator=generator, dtype=torch.float64)
        for size in (-0.2, 0.2, 1.0):
            other = optimal + size * torch.exp(-((GRID - center) / (0.5 + scale.abs())).square())
            # Total variation's optimum lies at infinity: in one direction every other critic is as good.
            slack = 1e-12 if name == "total_variation" else -1e-6
            assert bound(name, other) < divergence(name) + slack


def test_gaussian_divergences_are_the_known_ones() -> None:
    """Closed forms of KL, reverse KL and the Hellinger distance; χ² from a Gaussian integral."""
    m, s = 0.6, 1.2
    assert divergence("kl") == pytest.approx(math.log(s) + (1 + m**2) / (2 * s**2) - 0.5)
    assert divergence("reverse_kl") == pytest.approx(-math.log(s) + (s**2 + m**2) / 2 - 0.5)
    affinity = math.sqrt(2 * s / (1 + s**2)) * math.exp(-(m**2) / 4 / (1 + s**2))
    assert divergence("squared_hellinger") == pytest.approx(2 - 2 * affinity)
    # ∫ p²/q = s²/√(2s² − 1) · exp(m² / (2s² − 1))
    chi2 = s**2 / math.sqrt(2 * s**2 - 1) * math.exp(m**2 / (2 * s**2 - 1)) - 1
    assert divergence("pearson_chi2") == pytest.approx(chi2)


def test_total_variation_is_tight_in_the_limit_alone() -> None:
    sign, truth = (RATIO - 1).sign(), divergence("total_variation")
    gaps = [truth - bound("total_variation", height * sign) for height in (0.5, 1, 2, 4, 8)]
    # Each score short of infinity loses the share 1 − tanh v.
    for gap, height in zip(gaps, (0.5, 1, 2, 4, 8), strict=True):
        assert gap == pytest.approx(truth * (1 - math.tanh(height)), rel=1e-6)
    assert gaps == sorted(gaps, reverse=True)


@pytest.mark.parametrize("name", ROWS)
def test_metric_of_samples_is_the_divergence_of_their_distributions(name: str) -> None:
    """The registered loss, on as many samples of three points as their probabilities say."""
    loss = registry.build("loss", {"name": name})
    assert loss.symbol == name
    truth = (Q3 * TRUTH[name].f(P3 / Q3)).sum()
    optimal = TRUTH[name].score(P3 / Q3)
    torch.testing.assert_close(loss.metric(samples(optimal, P3), samples(optimal, Q3)), truth, rtol=1e-12, atol=1e-12)
    worse = optimal * torch.tensor([-1, 1, 1])  # wrong about one point
    assert loss.metric(samples(worse, P3), samples(worse, Q3)) < truth - 0.1


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_winning_critic_stays_finite(name: str, dtype: torch.dtype) -> None:
    """Scores that tell real from fake apart, however sure: value and gradients are finite.

    But for χ² and KL in their own scores, whose g is unbounded, these are where f* after g would be ∞ or NaN.
    """
    loss = registry.build("loss", {"name": name})
    for size in (50.0, 200.0, 1e4):
        real = torch.tensor([size, 1.0], dtype=dtype, requires_grad=True)
        fake = torch.tensor([-size, -1.0], dtype=dtype, requires_grad=True)
        value = loss.metric(real, fake)
        gradients = torch.autograd.grad(value, (real, fake))
        assert torch.isfinite(value)
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", ROWS)
def test_a_losing_critic_is_never_nan(name: str) -> None:
    """The bound may be −∞ there, and nothing else that is not finite."""
    loss = registry.build("loss", {"name": name})
    for size in (50.0, 200.0, 1e4):
        value = loss.metric(torch.tensor([-size, 1.0]), torch.tensor([size, -1.0])).item()
        assert math.isfinite(value) or value == -math.inf


def test_conjugates_keep_their_digits_where_g_has_lost_them() -> None:
    """In float32, g(200) rounds to 1 (Hellinger) and to 0 (reverse KL): f* of that is ∞."""
    v = torch.tensor([20.0, 80.0])
    torch.testing.assert_close(
        LOSSES["squared_hellinger"].conjugate(v), torch.tensor([485165194.4097903, 5.540622384e34])
    )
    assert (LOSSES["squared_hellinger"].activation(v) == 1).all()
    assert LOSSES["reverse_kl"].activation(torch.tensor(200.0)) == 0
    assert LOSSES["reverse_kl"].conjugate(torch.tensor(200.0)) == 199
    tiny = torch.tensor(1e-6)
    torch.testing.assert_close(LOSSES["squared_hellinger"].conjugate(tiny), tiny, rtol=1e-6, atol=0)
    torch.testing.assert_close(LOSSES["squared_hellinger"].activation(tiny), tiny, rtol=1e-6, atol=0)
