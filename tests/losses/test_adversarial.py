from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from genbench.losses.base import AdversarialLoss
from genbench.losses.f_divergence import (
    KullbackLeibler,
    PearsonChi2,
    ReverseKullbackLeibler,
    SquaredHellinger,
    TotalVariation,
)
from genbench.losses.hinge import Hinge
from genbench.losses.jsd import JensenShannon, NonSaturating
from genbench.losses.relativistic import Relativistic
from genbench.losses.w1 import Wasserstein1

P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
Q = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
COUNTS = 1000

MINIMAX = [
    JensenShannon(),
    Wasserstein1(),
    SquaredHellinger(),
    KullbackLeibler(),
    ReverseKullbackLeibler(),
    PearsonChi2(),
    TotalVariation(),
]
OTHERS = [NonSaturating(), Hinge(), Relativistic()]


def scores(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Critic values at three points, each as often as its probability says."""
    return values.repeat_interleave((weights * COUNTS).round().long())


def random_scores(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_jsd_is_tight_at_the_optimal_critic() -> None:
    """With C = log p/q (Goodfellow et al. 2014, proposition 1) the estimate is the divergence itself."""
    mixture = (P + Q) / 2
    truth = 0.5 * (P * (P / mixture).log()).sum() + 0.5 * (Q * (Q / mixture).log()).sum()
    optimal = (P / Q).log()
    loss = JensenShannon()
    torch.testing.assert_close(loss.metric(scores(optimal, P), scores(optimal, Q)), truth, rtol=1e-12, atol=1e-12)
    worse = optimal + torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    assert loss.metric(scores(worse, P), scores(worse, Q)) < truth


def test_the_estimate_of_jsd_is_at_most_log_two_and_0_of_a_critic_that_knows_nothing() -> None:
    loss, ones = JensenShannon(), torch.ones(4, dtype=torch.float64)
    for seed in range(20):
        assert loss.metric(9 * random_scores(5, seed=seed), 9 * random_scores(5, seed=99 - seed)) <= math.log(2)
    assert loss.metric(0 * ones, 0 * ones).item() == pytest.approx(0, abs=1e-15)
    assert loss.metric(1e4 * ones, -1e4 * ones).item() == pytest.approx(math.log(2), rel=1e-15)


def test_w1_is_the_distance_of_two_points_at_the_optimal_critic() -> None:
    x, y = torch.tensor([0.7], dtype=torch.float64), torch.tensor([-1.6], dtype=torch.float64)
    assert Wasserstein1().metric(x, y).item() == pytest.approx(2.3)  # C(x) = x has slope 1


@pytest.mark.parametrize("loss", MINIMAX, ids=lambda loss: loss.symbol)
def test_in_a_minimax_game_one_wins_what_the_other_loses(loss: AdversarialLoss) -> None:
    real, fake = random_scores(6), random_scores(6, seed=1)
    assert loss.critic_loss(real, fake) == -loss.metric(real, fake)
    assert loss.generator_loss(real, fake) == loss.metric(real, fake)


@pytest.mark.parametrize("loss", [*MINIMAX, *OTHERS], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("shape", [(8,), (8, 1), (4, 1, 2, 2)])
def test_scalars_that_push_every_score_the_right_way(loss: AdversarialLoss, shape: tuple[int, ...]) -> None:
    """The critic lowers its loss by raising a real score or lowering a fake one; the generator raises fake ones."""
    real = random_scores(*shape).clamp(-0.9, 0.9).requires_grad_()  # within the hinge
    fake = random_scores(*shape, seed=1).clamp(-0.9, 0.9).requires_grad_()
    value = loss.critic_loss(real, fake)
    up, down = torch.autograd.grad(value, (real, fake))
    (generator,) = torch.autograd.grad(loss.generator_loss(real.detach(), fake), fake)
    assert value.shape == loss.metric(real, fake).shape == ()
    assert (up < 0).all()
    assert (down > 0).all()
    assert (generator < 0).all()


@pytest.mark.parametrize("loss", MINIMAX + OTHERS, ids=lambda loss: type(loss).__name__)
def test_only_a_relative_loss_gives_the_generator_the_real_scores(loss: AdversarialLoss) -> None:
    """What `relative` promises: otherwise ∇ of the generator's loss is the same for any real scores."""
    fake = random_scores(5, seed=1).requires_grad_()
    gradients = [
        torch.autograd.grad(loss.generator_loss(random_scores(5, seed=seed), fake), fake)[0] for seed in (2, 3)
    ]
    assert torch.equal(*gradients) != loss.relative


@pytest.mark.parametrize("loss", MINIMAX + OTHERS, ids=lambda loss: type(loss).__name__)
def test_a_critic_of_equal_distributions_rests_at_its_best_constant(loss: AdversarialLoss) -> None:
    scores = torch.linspace(-3, 3, 601, dtype=torch.float64)
    values = torch.stack([loss.critic_loss(score[None], score[None]) for score in scores])
    best = scores[values < values.min() + 1e-9]
    low, high = np.clip(loss.resting, -3, 3)
    assert (best[0].item(), best[-1].item()) == pytest.approx((low, high))
    assert len(best) == round((high - low) / 0.01) + 1


@pytest.mark.parametrize("loss", [JensenShannon(), Wasserstein1(), PearsonChi2(), TotalVariation(), *OTHERS])
def test_large_scores_stay_finite(loss: AdversarialLoss) -> None:
    for player in (loss.critic_loss, loss.generator_loss, loss.metric):
        real = torch.tensor([1e4, -1e4], requires_grad=True)
        fake = -real.detach().requires_grad_()
        value = player(real, fake)
        gradients = torch.autograd.grad(value, (real, fake), allow_unused=True)
        assert torch.isfinite(value)
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)


def test_nonsaturating_is_twice_cross_entropy_of_a_classifier() -> None:
    """Softplus against torch's binary cross entropy: real is class 1, and the generator wants it for its own."""
    loss, real, fake = NonSaturating(), random_scores(6), random_scores(6, seed=1)
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    cross_entropy = binary_cross_entropy_with_logits
    torch.testing.assert_close(loss.critic_loss(real, fake), cross_entropy(real, ones) + cross_entropy(fake, zeros))
    torch.testing.assert_close(loss.generator_loss(real, fake), cross_entropy(fake, ones))
    # The critic's game is JSD's own, doubled and moved by log 4.
    torch.testing.assert_close(loss.critic_loss(real, fake), math.log(4) - 2 * JensenShannon().metric(real, fake))
    assert loss.metric(real, fake) == JensenShannon().metric(real, fake)


def test_nonsaturating_generator_follows_minus_the_gradient_of_log_sigma() -> None:
    """∇ −E log σ(c) = −σ(−c)/n, near −1/n where the critic is sure; the saturating ½ σ(c)/n vanishes there."""
    fake = torch.tensor([-20.0, -1.0, 0.0, 3.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(NonSaturating().generator_loss(fake.detach(), fake), fake)
    (by_autograd,) = torch.autograd.grad(-torch.sigmoid(fake).log().mean(), fake)
    torch.testing.assert_close(gradient, by_autograd)
    torch.testing.assert_close(gradient, -torch.sigmoid(-fake.detach()) / 4)
    (saturating,) = torch.autograd.grad(JensenShannon().generator_loss(fake.detach(), fake), fake)
    torch.testing.assert_close(saturating, -torch.sigmoid(fake.detach()) / 8)
    assert abs(gradient[0]) > 0.24
    assert abs(saturating[0]) < 1e-9


def test_hinge_bounds_total_variation_from_below() -> None:
    """Tight at C = sign(p − q) (Lim & Ye 2017), where the critic's loss is 2 Σ min(p, q)."""
    loss, truth = Hinge(), 0.5 * (P - Q).abs().sum()
    optimal = (P - Q).sign()
    torch.testing.assert_close(loss.metric(scores(optimal, P), scores(optimal, Q)), truth, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        loss.critic_loss(scores(optimal, P), scores(optimal, Q)),
        2 * torch.minimum(P, Q).sum(),
        rtol=1e-12,
        atol=1e-12,
    )
    for seed in range(20):
        worse = 2 * random_scores(3, seed=seed)
        assert loss.metric(scores(worse, P), scores(worse, Q)) < truth


def test_hinge_is_flat_beyond_its_margins() -> None:
    real = torch.tensor([1.5, 0.5, -2.0], dtype=torch.float64, requires_grad=True)
    fake = torch.tensor([-1.5, -0.5, 2.0], dtype=torch.float64, requires_grad=True)
    value = Hinge().critic_loss(real, fake)
    up, down = torch.autograd.grad(value, (real, fake))
    assert value.item() == pytest.approx(2 * (0 + 0.5 + 3) / 3)
    torch.testing.assert_close(up, torch.tensor([0, -1, -1], dtype=torch.float64) / 3)
    torch.testing.assert_close(down, torch.tensor([0, 1, 1], dtype=torch.float64) / 3)
    (generator,) = torch.autograd.grad(Hinge().generator_loss(real, fake), fake)
    torch.testing.assert_close(generator, torch.full((3,), -1 / 3, dtype=torch.float64))


def test_relativistic_over_all_pairs() -> None:
    """Every real sample with every fake one, against Σᵢⱼ pᵢ qⱼ log σ(Cᵢ − Cⱼ) written as loops."""
    values = [0.7, -0.4, 1.9]
    expected = sum(
        P[i].item() * Q[j].item() * math.log(1 / (1 + math.exp(values[j] - values[i])))
        for i in range(3)
        for j in range(3)
    )
    ten_p, ten_q = ([k for k in range(3) for _ in range(round(10 * weights[k].item()))] for weights in (P, Q))
    pairs = torch.tensor([(values[i], values[j]) for i in ten_p for j in ten_q], dtype=torch.float64)
    real, fake = pairs.unbind(1)
    loss = Relativistic()
    assert loss.metric(real, fake).item() == pytest.approx(expected + math.log(2), rel=1e-12)
    assert loss.critic_loss(real, fake).item() == pytest.approx(-expected, rel=1e-12)
    assert loss.generator_loss(real, fake).item() == pytest.approx(loss.critic_loss(fake, real).item(), rel=1e-12)


def test_relativistic_is_zero_for_a_constant_critic_and_at_most_log_two() -> None:
    loss = Relativistic()
    constant = torch.full((5,), 3.7, dtype=torch.float64)
    assert loss.metric(constant, constant).item() == pytest.approx(0, abs=1e-15)
    for seed in range(20):
        assert loss.metric(5 * random_scores(7, seed=seed), 5 * random_scores(7, seed=seed + 100)) <= math.log(2)
    assert loss.metric(1e4 + constant, -constant).item() == pytest.approx(math.log(2), rel=1e-15)


def test_relativistic_sees_differences_alone() -> None:
    """A shift of the critic changes nothing, and both players share 1/n of slope: σ(d) + σ(−d) = 1."""
    loss, real, fake = Relativistic(), random_scores(6), random_scores(6, seed=1).requires_grad_()
    torch.testing.assert_close(loss.critic_loss(real + 4, fake + 4), loss.critic_loss(real, fake))
    (critic,) = torch.autograd.grad(loss.critic_loss(real, fake), fake)
    (generator,) = torch.autograd.grad(loss.generator_loss(real, fake), fake)
    torch.testing.assert_close(critic - generator, torch.full_like(critic, 1 / 6))
