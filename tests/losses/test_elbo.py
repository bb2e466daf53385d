from __future__ import annotations

import torch
from torch.distributions import Normal, kl_divergence

from genbench.functional import kl_gaussian_gaussian_analytic, kl_gaussian_standard_normal
from genbench.losses.elbo import ELBO


def test_kl_to_the_standard_normal() -> None:
    torch.manual_seed(0)
    mu, logvar = torch.randn(2, 7, 3, 4, dtype=torch.float64)
    value = kl_gaussian_standard_normal(mu, logvar)
    truth = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), 1.0)).sum((1, 2))
    torch.testing.assert_close(value, truth, rtol=1e-12, atol=1e-12)
    zeros = torch.zeros_like(mu)
    torch.testing.assert_close(value, kl_gaussian_gaussian_analytic(mu, logvar, zeros, zeros))
    extreme = torch.tensor([[50.0], [-50.0]], requires_grad=True)
    kl_gaussian_standard_normal(torch.ones(2, 1), extreme).sum().backward()
    assert torch.isfinite(extreme.grad).all()  # type: ignore[arg-type]


def test_the_bound_is_likelihood_less_kl() -> None:
    mu, logvar, z = torch.randn(3, 4, 5)
    log_likelihood = torch.randn(4)
    terms = ELBO().terms(log_likelihood, mu, logvar, z)
    assert torch.equal(terms.elbo, log_likelihood - kl_gaussian_standard_normal(mu, logvar))
