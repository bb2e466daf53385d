from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from genbench.errors import ConfigError
from genbench.losses.elbo import ELBO, ElboTerms, doubly_reparameterised


def test_the_bound_is_likelihood_less_kl() -> None:
    terms = ElboTerms(torch.randn(4), torch.rand(4, 5))
    assert torch.equal(terms.elbo, terms.log_likelihood - terms.kl_parts.sum(1))
    torch.testing.assert_close(ELBO().objective(terms, 5), terms.elbo.mean())


def test_free_bits_by_hand() -> None:
    """Means over the batch of 0.1, 0.5 and 2 nats: the first counts as 0.3, and gets no gradient."""
    parts = torch.tensor([[0.0, 0.8, 1.0], [0.2, 0.2, 3.0]], dtype=torch.float64, requires_grad=True)
    terms = ElboTerms(torch.tensor([-10.0, -20.0], dtype=torch.float64), parts)
    objective = ELBO(free_bits=0.3).objective(terms, 3)
    assert objective.item() == pytest.approx(-15 - (0.3 + 0.5 + 2.0), abs=1e-12)
    assert terms.elbo.mean().item() == pytest.approx(-15 - 2.6, abs=1e-12)
    (gradient,) = torch.autograd.grad(objective, parts)
    assert torch.equal(gradient, torch.tensor([[0, -0.5, -0.5]] * 2, dtype=torch.float64))
    # One part for all three latents: the floor is 0.9 for their sum.
    for kl, seen in ((0.8, 0.9), (1.4, 1.4)):
        whole = ElboTerms(torch.zeros(1), torch.tensor([[kl]]))
        assert ELBO(kl="mc", free_bits=0.3).objective(whole, 3).item() == pytest.approx(-seen)


def test_weight_of_the_kl_term() -> None:
    terms = ElboTerms(torch.tensor([-10.0]), torch.tensor([[1.0, 3.0]]))
    assert ELBO(beta=2.5).objective(terms, 2, ELBO(beta=2.5).kl_weight(0)).item() == -20
    annealed = ELBO(beta=2.0, kl_anneal_steps=4)
    assert [annealed.kl_weight(step) for step in (0, 1, 2, 4, 100)] == [0, 0.5, 1, 2, 2]
    assert ELBO().kl_weight(0) == 1


@pytest.mark.parametrize("wrong", [{}, {"beta": 2.0}, {"kl_anneal_steps": 3}, {"free_bits": 0.1}])
def test_several_samples_exclude_what_needs_a_kl_term(wrong: dict) -> None:
    options = {"kl": "mc" if wrong else "analytic", "samples": 5} | wrong
    with pytest.raises(ConfigError, match=r"loss\.samples=1"):
        ELBO(**options)
    ELBO(kl="mc", samples=5)


def log_weights(base: Tensor, mu: Tensor, log_sigma: Tensor, theta: Tensor) -> Tensor:
    """log p_θ(x, z)/q(z) for z ~ N(μ, σ²), z ~ N(0, 1), x = 1 ~ N(θ z, 1)."""
    log_q = Normal(mu, log_sigma.exp()).log_prob(base)
    return Normal(0.0, 1.0).log_prob(base) + Normal(theta * base, 1.0).log_prob(torch.ones_like(base)) - log_q


def test_doubly_reparameterised_gradient_has_the_plain_ones_expectation() -> None:
    torch.manual_seed(0)
    rows, count = 200_000, 4
    mu, log_sigma, theta = (
        torch.full((rows, 1), value, dtype=torch.float64, requires_grad=True) for value in (0.2, -0.4, 0.7)
    )
    noise = torch.randn(rows, count, dtype=torch.float64)
    base = mu + log_sigma.exp() * noise
    bound = torch.logsumexp(log_weights(base, mu, log_sigma, theta), 1) - math.log(count)
    plain = torch.stack(torch.autograd.grad(bound.sum(), (mu, log_sigma, theta)))[..., 0]

    flat = (mu + log_sigma.exp() * noise).reshape(-1, 1)
    detached = log_weights(flat.view(rows, count), mu.detach(), log_sigma.detach(), theta)
    same_bound, surrogate = doubly_reparameterised(detached, flat)
    torch.testing.assert_close(same_bound, bound, rtol=1e-12, atol=1e-12)
    double = torch.stack(torch.autograd.grad(surrogate * rows, (mu, log_sigma, theta)))[..., 0]
    difference = double - plain
    error = difference.std(1) / math.sqrt(rows)
    assert (difference.mean(1).abs()[:2] < 3 * error[:2]).all()
    torch.testing.assert_close(double[2], plain[2])  # of the model's own parameters they are the same
    assert (plain.mean(1).abs() > 20 * error.max()).all()  # far from zero, so agreeing is not for free
    assert (double.std(1)[:2] < 0.8 * plain.std(1)[:2]).all()  # what it is for


def test_doubly_reparameterised_gradient_vanishes_at_the_exact_posterior() -> None:
    """There all weights are p(x) whatever z is: the posterior's gradient is zero with every single sample."""
    theta = torch.tensor(0.7, dtype=torch.float64)
    variance = 1 / (1 + theta**2)
    mu = (theta * variance).requires_grad_()
    log_sigma = (0.5 * variance.log()).requires_grad_()
    flat = (mu + log_sigma.exp() * torch.randn(50, 3, dtype=torch.float64)).reshape(-1, 1)
    weights = log_weights(flat.view(50, 3), mu.detach(), log_sigma.detach(), theta)
    _, surrogate = doubly_reparameterised(weights, flat)
    for gradient in torch.autograd.grad(surrogate, (mu, log_sigma)):
        assert abs(gradient.item()) < 1e-12


def test_doubly_reparameterised_gradient_of_a_flow_posterior() -> None:
    """z = z₀ + a tanh z₀: the flow's own parameter gets the plain gradient, those of z₀'s density the same mean."""
    torch.manual_seed(1)
    rows, count = 200_000, 4
    mu, log_sigma, a, theta = (
        torch.full((rows, 1), value, dtype=torch.float64, requires_grad=True) for value in (-0.2, -0.3, 0.5, 0.7)
    )
    noise = torch.randn(rows, count, dtype=torch.float64)

    def weights(base: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        z = base + a * torch.tanh(base)
        log_det = torch.log1p(a * (1 - torch.tanh(base) ** 2))
        log_q = Normal(mu, log_sigma.exp()).log_prob(base) - log_det
        return Normal(0.0, 1.0).log_prob(z) + Normal(theta * z, 1.0).log_prob(torch.ones_like(z)) - log_q

    bound = torch.logsumexp(weights(mu + log_sigma.exp() * noise, mu, log_sigma), 1) - math.log(count)
    plain = torch.stack(torch.autograd.grad(bound.sum(), (mu, log_sigma, a, theta)))[..., 0]
    flat = (mu + log_sigma.exp() * noise).reshape(-1, 1)
    same_bound, surrogate = doubly_reparameterised(
        weights(flat.view(rows, count), mu.detach(), log_sigma.detach()), flat
    )
    torch.testing.assert_close(same_bound, bound, rtol=1e-12, atol=1e-12)
    double = torch.stack(torch.autograd.grad(surrogate * rows, (mu, log_sigma, a, theta)))[..., 0]
    difference = double - plain
    error = difference.std(1) / math.sqrt(rows)
    assert (difference.mean(1).abs()[:2] < 3 * error[:2]).all()
    torch.testing.assert_close(double[2:], plain[2:])
    assert (plain.mean(1).abs()[[0, 1, 3]] > 10 * error.max()).all()  # far from zero, so agreeing is not for free
