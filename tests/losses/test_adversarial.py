from __future__ import annotations

import math

import pytest
import torch

from genbench.losses.jsd import JensenShannon
from genbench.losses.w1 import Wasserstein1

P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
Q = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
COUNTS = 1000


def scores(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Critic values at three points, each as often as its probability says."""
    return values.repeat_interleave((weights * COUNTS).round().long())


def test_jsd_is_tight_at_the_optimal_critic() -> None:
    """With C = log p/q (Goodfellow et al. 2014, proposition 1) the estimate is the divergence itself."""
    mixture = (P + Q) / 2
    truth = 0.5 * (P * (P / mixture).log()).sum() + 0.5 * (Q * (Q / mixture).log()).sum()
    optimal = (P / Q).log()
    loss = JensenShannon()
    torch.testing.assert_close(loss.metric(scores(optimal, P), scores(optimal, Q)), truth, rtol=1e-12, atol=1e-12)
    worse = optimal + torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    assert loss.metric(scores(worse, P), scores(worse, Q)) < truth


def test_jsd_lies_between_zero_and_log_two() -> None:
    loss, ones = JensenShannon(), torch.ones(4, dtype=torch.float64)
    assert loss.metric(0 * ones, 0 * ones).item() == pytest.approx(0, abs=1e-15)
    assert loss.metric(1e4 * ones, -1e4 * ones).item() == pytest.approx(math.log(2), rel=1e-15)


def test_w1_is_the_distance_of_two_points_at_the_optimal_critic() -> None:
    x, y = torch.tensor([0.7], dtype=torch.float64), torch.tensor([-1.6], dtype=torch.float64)
    assert Wasserstein1().metric(x, y).item() == pytest.approx(2.3)  # C(x) = x has slope 1


@pytest.mark.parametrize("loss", [JensenShannon(), Wasserstein1()])
@pytest.mark.parametrize("shape", [(8,), (8, 1), (4, 1, 2, 2)])
def test_the_players_pull_in_opposite_directions(loss, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    real, fake = torch.randn(shape), torch.randn(shape, requires_grad=True)
    (critic,) = torch.autograd.grad(loss.critic_loss(real, fake), fake)
    (generator,) = torch.autograd.grad(loss.generator_loss(real, fake), fake)
    assert torch.equal(critic, -generator)
    assert (critic != 0).all()


@pytest.mark.parametrize("loss", [JensenShannon(), Wasserstein1()])
def test_large_scores_stay_finite(loss) -> None:  # type: ignore[no-untyped-def]
    real = torch.tensor([1e4, -1e4], requires_grad=True)
    value = loss.critic_loss(real, -real.detach())
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(real.grad).all()  # type: ignore[arg-type]
