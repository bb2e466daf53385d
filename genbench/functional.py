"""Log-likelihoods, divergences and log-mean-exp, in nats, and the ELU: pure tensor functions.

A batch [B, …] becomes one value per sample, [B]; a batch of scalars [B] has one feature a sample. All inputs of a
function must have the same shape: broadcasting is refused with ValueError, since [B, 1, D] against [B, D] would pair
samples with each other. Values and gradients are finite in float32 too, for Bernoulli means of exactly 0 and 1, and
for log-variances within ±50 where means and samples are of ordinary size.

On a CPU, log(1 + x) and eˣ − 1 are computed by log and exp: PyTorch's log1p and expm1 take up to twice as long, with
AVX-512 nine times. The absolute error is that of rounding; a small relative error near 0 would be of no use to a
network or in a sum. These two functions have gradients of any order, and no forward mode (torch.func.jvp).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "LOG_2PI",
    "elu",
    "kl_gaussian_gaussian_analytic",
    "kl_gaussian_gaussian_mc",
    "kl_gaussian_standard_normal",
    "log_likelihood_bernoulli",
    "log_likelihood_bernoulli_logits",
    "log_likelihood_normal",
    "log_mean_exp",
    "sample_gaussian",
]

LOG_2PI = math.log(2 * math.pi)

FUSED = {"cuda", "mps"}
"""Devices on which one kernel of PyTorch's takes less time than several small ones."""

FACTORS = 112
"""So many numbers of at most 2 have a product that float32 and bfloat16 hold; it divides 784, a digit's pixels."""


def elu(x: Tensor) -> Tensor:
    """x where x > 0, otherwise eˣ − 1: the exponential linear unit (Clevert et al. 2016, arXiv 1511.07289) for α = 1.

    >>> elu(torch.tensor([-1.0, 0.0, 2.0]))
    tensor([-0.6321,  0.0000,  2.0000])
    """
    y: Tensor = F.elu(x) if x.device.type in FUSED else _Elu.apply(x)
    return y


class _Elu(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.maximum(x, x.clamp(max=0).exp_().sub_(1))

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        context.save_for_backward(output)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        y: Tensor = context.saved_tensors[0]
        return gradient * (y.clamp(max=0) + 1)


def log_likelihood_bernoulli(mu: Tensor, target: Tensor) -> Tensor:
    """log p(x) = Σ_i x_i log μ_i + (1 − x_i) log(1 − μ_i), from means.

    Args:
        mu: [B, …], p(x = 1) in [0, 1]. A probability below 1e-16 counts as 1e-16, in the value and in the slope: an
            "impossible" pixel costs 36.8 nats, and its gradient is finite and points away from it.
        target: [B, …], binary.

    Returns:
        [B]

    >>> log_likelihood_bernoulli(torch.tensor([[0.5, 0.25]]), torch.tensor([[1.0, 0.0]]))
    tensor([-0.9808])
    """
    _require_one_shape(mu=mu, target=target)
    return _sum_features(target * _floored_log(mu) + (1 - target) * _floored_log(1 - mu))


def log_likelihood_bernoulli_logits(logits: Tensor, target: Tensor) -> Tensor:
    """log p(x) = Σ_i x_i l_i − softplus(l_i), from logits l = log μ/(1 − μ): the form that models use.

    Args:
        logits: [B, …].
        target: [B, …], binary. Its gradient is the logit, so detach it where it depends on parameters by accident.

    Returns:
        [B]

    >>> log_likelihood_bernoulli_logits(torch.tensor([[0.0, 1000.0]]), torch.tensor([[1.0, 1.0]]))
    tensor([-0.6931])
    """
    _require_one_shape(logits=logits, target=target)
    if logits.device.type in FUSED or logits.dtype == torch.float16:
        return -_sum_features(F.binary_cross_entropy_with_logits(logits, target, reduction="none"))
    value: Tensor = _BernoulliLogits.apply(_features(logits), _features(target))
    return value


class _BernoulliLogits(torch.autograd.Function):
    """Σ_i (x_i − ½) l_i − ½|l_i| − log(1 + exp −|l_i|), with one logarithm for many pixels."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, target: Tensor) -> Tensor:
        size = logits.abs()
        linear = (logits * (target - 0.5)).sub_(size, alpha=0.5)
        factors = size.neg_().exp_().add_(1)
        if rest := factors.shape[1] % FACTORS:
            factors = torch.cat([factors, factors.new_ones(len(factors), FACTORS - rest)], dim=1)
        factors = factors.reshape(len(factors), factors.shape[1] // FACTORS, FACTORS)
        return linear.sum(dim=1) - factors.prod(dim=2).log_().sum(dim=1)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        logits, target = context.saved_tensors
        by_target = gradient[:, None] * logits if context.needs_input_grad[1] else None
        return gradient[:, None] * (target - torch.sigmoid(logits)), by_target


def log_likelihood_normal(mu: Tensor, logvar: Tensor, z: Tensor) -> Tensor:
    """log N(z; μ, diag σ²) = −½ Σ_i log 2π + log σ_i² + (z_i − μ_i)²/σ_i².

    Args:
        mu, logvar, z: [B, …], log σ² rather than σ.

    Returns:
        [B]

    >>> log_likelihood_normal(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([-1.8379])
    """
    _require_one_shape(mu=mu, logvar=logvar, z=z)
    return -_sum_features(0.5 * (LOG_2PI + logvar) + _half_square((z - mu) * torch.exp(-0.5 * logvar)))


def log_mean_exp(y: Tensor) -> Tensor:
    """log 1/K Σ_k exp y_k, with the maximum factored out.

    Args:
        y: [B, K], of any size: ±1e4 neither overflows nor vanishes, −∞ is a weight of zero. A row of −∞ alone
            gives −∞; its gradient is undefined.

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

    >>> zero = torch.zeros(1, 2)
    >>> kl_gaussian_gaussian_analytic(zero + 1, zero, zero, zero)
    tensor([1.])
    """
    _require_one_shape(mu_q=mu_q, logvar_q=logvar_q, mu_p=mu_p, logvar_p=logvar_p)
    log_ratio = logvar_q - logvar_p
    distance = _half_square((mu_q - mu_p) * torch.exp(-0.5 * logvar_p))
    return _sum_features(0.5 * (_bounded_exp(log_ratio) - log_ratio - 1) + distance)


def kl_gaussian_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(μ, diag σ²) ‖ N(0, I)) = ½ Σ_i μ_i² + σ_i² − 1 − log σ_i²: the analytic form for a VAE's usual prior.

    Args:
        mu, logvar: [B, …].

    Returns:
        [B]
    """
    _require_one_shape(mu=mu, logvar=logvar)
    return 0.5 * _sum_features(mu.square() + _bounded_exp(logvar) - 1 - logvar)


def kl_gaussian_gaussian_mc(
    mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor, num_samples: int = 1
) -> Tensor:
    """KL(q ‖ p) ≈ 1/K Σ_k log q(z_k) − log p(z_k), z_k ~ q: unbiased, differentiable by reparameterization.

    Args:
        mu_q, logvar_q, mu_p, logvar_p: [B, …].
        num_samples: K. Raises ValueError if it is not positive.

    Returns:
        [B]
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be positive, not {num_samples}")
    _require_one_shape(mu_q=mu_q, logvar_q=logvar_q, mu_p=mu_p, logvar_p=logvar_p)
    noise = torch.randn((num_samples, *mu_q.shape), dtype=mu_q.dtype, device=mu_q.device)
    z = mu_q + torch.exp(0.5 * logvar_q) * noise
    # (z − μ_q)/σ_q is the noise; z − μ_q would lose all digits where σ_q is small compared to μ_q.
    log_q = -0.5 * (logvar_q + noise.square())
    log_p = -0.5 * logvar_p - _half_square((z - mu_p) * torch.exp(-0.5 * logvar_p))
    return _sum_features((log_q - log_p).mean(dim=0))


def sample_gaussian(mu: Tensor, logvar: Tensor) -> Tensor:
    """z = μ + σ ε, ε ~ N(0, I): a reparameterized sample of N(μ, diag σ²), shaped like μ."""
    _require_one_shape(mu=mu, logvar=logvar)
    return torch.addcmul(mu, torch.exp(0.5 * logvar), torch.randn_like(mu))


def _require_one_shape(**tensors: Tensor) -> None:
    """Raise ValueError if shapes differ. It compares shapes alone: nothing waits for the device or breaks a graph."""
    first, *rest = tensors.values()
    if any(tensor.shape != first.shape for tensor in rest):
        given = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"{given}: these must have the same shape; expand or reshape them first")


def _features(batch: Tensor) -> Tensor:
    """[B, …] → [B, D]."""
    return batch.flatten(1) if batch.dim() > 1 else batch[:, None]


def _sum_features(terms: Tensor) -> Tensor:
    """[B, …] → [B]."""
    return _features(terms).sum(dim=1)


def _floored_log(p: Tensor) -> Tensor:
    """log max(p, floor); below the floor the slope is 1/floor, where that of a clamp would be 0."""
    # 1e-16 is less than the spacing of float64 below 1, so 1 − μ falls below it only at μ = 1. The sum of squares of
    # 1e16 over a batch of images still fits into float32, so the norm of the gradient is finite too.
    floor = max(1e-16, torch.finfo(p.dtype).tiny)
    return torch.log(p + (floor - p.detach()).clamp(min=0))


def _bounded_exp(x: Tensor) -> Tensor:
    """e^x, continued by its tangent where sums of it would overflow: beyond 80 in float32, 701 in float64."""
    inside = x.clamp(max=math.log(torch.finfo(x.dtype).max) - 8)
    power = torch.exp(inside)
    return torch.addcmul(power, power, x - inside)


def _half_square(x: Tensor) -> Tensor:
    """½ x², continued by its tangent beyond |x| = 3e11 in float32 (3e92 in float64), where x² may overflow."""
    limit = torch.finfo(x.dtype).max ** 0.3
    inside = x.clamp(-limit, limit)
    return inside * torch.sub(x, inside, alpha=0.5)
