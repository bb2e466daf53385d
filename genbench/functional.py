"""Log-likelihoods, divergences and log-mean-exp: pure tensor functions, in nats.

Shapes follow the reports: a batch [B, …] becomes one value per sample, [B].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "kl_gaussian_gaussian_analytic",
    "kl_gaussian_gaussian_mc",
    "log_likelihood_bernoulli",
    "log_likelihood_bernoulli_logits",
    "log_likelihood_normal",
    "log_mean_exp",
    "sample_gaussian",
]

LOG_2PI = math.log(2 * math.pi)


def log_likelihood_bernoulli(mu: Tensor, target: Tensor) -> Tensor:
    """log p(x) = Σ_i x_i log μ_i + (1 − x_i) log(1 − μ_i), from means.

    Args:
        mu: [B, …], p(x = 1) in [0, 1]. Values closer to 0 or 1 than the type resolves are moved to there, so
            that value and gradient stay finite.
        target: [B, …], binary.

    Returns:
        [B]

    >>> log_likelihood_bernoulli(torch.tensor([[0.5, 0.25]]), torch.tensor([[1.0, 0.0]]))
    tensor([-0.9808])
    """
    eps = torch.finfo(mu.dtype).eps
    # Straight through the clamp: at 0 and 1 the gradient keeps pointing away from the impossible value.
    clamped = mu + (mu.detach().clamp(eps, 1 - eps) - mu.detach())
    terms = target * torch.log(clamped) + (1 - target) * torch.log1p(-clamped)
    return terms.flatten(1).sum(dim=1)


def log_likelihood_bernoulli_logits(logits: Tensor, target: Tensor) -> Tensor:
    """log p(x) = Σ_i x_i l_i − softplus(l_i), from logits l = log μ/(1 − μ): the form that models use.

    Args:
        logits: [B, …].
        target: [B, …], binary; gets no gradient.

    Returns:
        [B]
    """
    return -F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(dim=1)


def log_likelihood_normal(mu: Tensor, logvar: Tensor, z: Tensor) -> Tensor:
    """log N(z; μ, diag σ²) = −½ Σ_i log 2π + log σ_i² + (z_i − μ_i)²/σ_i².

    Args:
        mu, logvar, z: [B, …], log σ² rather than σ.

    Returns:
        [B]

    >>> log_likelihood_normal(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([-1.8379])
    """
    return -0.5 * (LOG_2PI + logvar + (z - mu).square() * torch.exp(-logvar)).flatten(1).sum(dim=1)


def log_mean_exp(y: Tensor) -> Tensor:
    """log 1/K Σ_k exp y_k, by the maximum taken out first.

    Args:
        y: [B, K], of any size: ±1e4 neither overflows nor vanishes.

    Returns:
        [B]

    >>> log_mean_exp(torch.tensor([[1e4, 1e4], [-1e4, -1e4]]))
    tensor([ 10000., -10000.])
    """
    return torch.logsumexp(y, dim=-1) - math.log(y.shape[-1])


def kl_gaussian_gaussian_analytic(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """KL(q ‖ p) = ½ Σ_i log σ_p²/σ_q² + (σ_q² + (μ_q − μ_p)²)/σ_p² − 1 of two diagonal normals.

    Kingma & Welling 2014 (arXiv 1312.6114), appendix B, for a general p.

    Args:
        mu_q, logvar_q, mu_p, logvar_p: [B, …].

    Returns:
        [B]
    """
    ratio = torch.exp(logvar_q - logvar_p)
    distance = (mu_q - mu_p).square() * torch.exp(-logvar_p)
    return 0.5 * (logvar_p - logvar_q + ratio + distance - 1).flatten(1).sum(dim=1)


def kl_gaussian_gaussian_mc(
    mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor, num_samples: int = 1
) -> Tensor:
    """KL(q ‖ p) ≈ 1/K Σ_k log q(z_k) − log p(z_k), z_k ~ q: unbiased, differentiable by reparameterization.

    Args:
        mu_q, logvar_q, mu_p, logvar_p: [B, …].
        num_samples: K.

    Returns:
        [B]
    """
    batch = len(mu_q)
    mu_q, logvar_q, mu_p, logvar_p = (
        statistic.flatten(1).repeat_interleave(num_samples, dim=0) for statistic in (mu_q, logvar_q, mu_p, logvar_p)
    )
    z = sample_gaussian(mu_q, logvar_q)
    log_ratio = log_likelihood_normal(mu_q, logvar_q, z) - log_likelihood_normal(mu_p, logvar_p, z)
    return log_ratio.view(batch, num_samples).mean(dim=1)


def sample_gaussian(mu: Tensor, logvar: Tensor) -> Tensor:
    """z = μ + σ ε, ε ~ N(0, I): a reparameterized sample of N(μ, diag σ²), shaped like μ."""
    return torch.addcmul(mu, torch.exp(0.5 * logvar), torch.randn_like(mu))
