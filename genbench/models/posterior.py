"""Posteriors q(z|x) of latent-variable models: a diagonal normal, and flows that start from it.

    z = f(z₀; h),   z₀ ~ N(μ(x), diag σ²(x)),   log q(z|x) = log N(z₀; μ, σ²) − log |det ∂f/∂z₀|

Rezende & Mohamed 2015 (arXiv 1505.05770), section 4.2; Kingma et al. 2016 (arXiv 1606.04934), algorithm 1. The flow
sees a context h(x) of the encoder; for the normal posterior f is the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genbench.bijections.autoregressive import InverseAutoregressive
from genbench.bijections.base import Bijection, Compose
from genbench.bijections.planar import PlanarStack
from genbench.bijections.shape import Permutation
from genbench.functional import kl_gaussian_standard_normal, log_likelihood_normal, sample_gaussian

__all__ = ["FLOW_POSTERIORS", "POSTERIORS", "Code", "FlowPosterior", "NormalPosterior", "Sample", "make_posterior"]

FLOW_POSTERIORS = ("planar", "iaf")
POSTERIORS = ("normal", *FLOW_POSTERIORS)
IAF_WIDTH = 320
NEAR_IDENTITY = 0.01
MEAN_SAMPLES = 32


class Code(NamedTuple):
    """An encoder's outputs for B images: mean and log variance of z₀, [B, L]; the flow's context [B, H], if any."""

    mu: Tensor
    logvar: Tensor
    context: Tensor | None

    def repeat(self, count: int) -> Code:
        """Every image `count` times in a row, [B · count, …]."""
        if count == 1:
            return self
        context = None if self.context is None else self.context.repeat_interleave(count, 0)
        return Code(self.mu.repeat_interleave(count, 0), self.logvar.repeat_interleave(count, 0), context)


class Sample(NamedTuple):
    """z and the z₀ it comes from, [B, L]; log |det ∂z/∂z₀| [B], None for the identity."""

    z: Tensor
    base: Tensor
    log_det: Tensor | None


class NormalPosterior(nn.Module):
    """q(z|x) = N(μ(x), diag σ²(x))."""

    closed_form = True
    """The KL divergence to the prior has a closed form, a sum over dimensions."""

    def forward(self, code: Code, base: Tensor) -> Sample:
        """Samples of q(z|x) from samples z₀ ~ N(μ, diag σ²) of the code, [B, L]; differentiable in both."""
        return Sample(base, base, None)

    def base(self, code: Code, z: Tensor) -> Tensor:
        """The z₀ that z comes from, [B, L]."""
        return z

    def log_prob(self, code: Code, sample: Sample) -> Tensor:
        """log q(z|x), [B]."""
        return log_likelihood_normal(code.mu, code.logvar, sample.base)

    def log_ratio(self, code: Code, sample: Sample) -> Tensor:
        """log p(z) − log q(z|x), [B]."""
        zeros = torch.zeros_like(sample.z)
        return log_likelihood_normal(zeros, zeros, sample.z) - self.log_prob(code, sample)

    def kl(self, code: Code) -> Tensor:
        """KL(q(z_d|x) ‖ N(0, 1)) of every dimension, [B, L]."""
        return _by_dimension(kl_gaussian_standard_normal, code.mu, code.logvar)

    def sampled_kl(self, code: Code, sample: Sample) -> Tensor:
        """log q(z|x) − log p(z) as terms whose sum it is, one per dimension: [B, L]."""
        zeros = torch.zeros_like(sample.z)
        log_q = _by_dimension(log_likelihood_normal, code.mu, code.logvar, sample.base)
        return log_q - _by_dimension(log_likelihood_normal, zeros, zeros, sample.z)

    def means(self, code: Code) -> tuple[Tensor, Tensor]:
        """Two estimates of E[z|x], [B, L], with independent errors; exact for the normal posterior."""
        return code.mu, code.mu


class FlowPosterior(NormalPosterior):
    """The normal posterior's samples through a flow that sees the encoder's context.

    The KL divergence has no closed form and is no sum over dimensions: `sampled_kl` is [B, 1].
    """

    closed_form = False

    def __init__(self, flow: Bijection) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, code: Code, base: Tensor) -> Sample:
        z, log_det = self.flow(base, code.context)
        return Sample(z, base, log_det)

    def base(self, code: Code, z: Tensor) -> Tensor:
        return self.flow.inverse(z, code.context)[0]

    def log_prob(self, code: Code, sample: Sample) -> Tensor:
        assert sample.log_det is not None
        return super().log_prob(code, sample) - sample.log_det

    def kl(self, code: Code) -> Tensor:
        raise NotImplementedError("the KL divergence of a flow posterior has no closed form")

    def sampled_kl(self, code: Code, sample: Sample) -> Tensor:
        return -self.log_ratio(code, sample)[:, None]

    def means(self, code: Code) -> tuple[Tensor, Tensor]:
        """Means of 32 samples each."""
        repeated, size = code.repeat(MEAN_SAMPLES), (-1, MEAN_SAMPLES, code.mu.shape[1])
        first, second = (
            self(repeated, sample_gaussian(repeated.mu, repeated.logvar)).z.view(size).mean(1) for _ in range(2)
        )
        return first, second


def make_posterior(kind: str, latent_dim: int, flow_steps: int, context: int) -> NormalPosterior:
    """One of POSTERIORS.

    planar: `flow_steps` planar maps with parameters linear in the context. iaf: `flow_steps` inverse
    autoregressive steps with the order reversed between them. Both start near the identity.

    Args:
        latent_dim: L
        context: size of the context vector.
    """
    if kind == "normal":
        return NormalPosterior()
    if kind == "planar":
        return FlowPosterior(PlanarStack(latent_dim, flow_steps, context))
    steps = [InverseAutoregressive(latent_dim, [IAF_WIDTH], context=context) for _ in range(flow_steps)]
    for step in steps:
        _start_near_identity(step)
    reversals = [Permutation.reverse(latent_dim) for _ in range(flow_steps - 1)]
    between = chain.from_iterable(zip(reversals, steps[1:], strict=True))
    return FlowPosterior(Compose([steps[0], *between]))


def _start_near_identity(step: InverseAutoregressive) -> None:
    last, past_hidden = step.made.layers[-1], step.made.context_out
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.weight, 0.0, NEAR_IDENTITY)
    nn.init.zeros_(last.bias)
    if past_hidden is not None:
        nn.init.normal_(past_hidden.weight, 0.0, NEAR_IDENTITY)


def _by_dimension(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Apply a function that sums over features, [B, L] → [B], to each feature separately: [B, L]."""
    return function(*(tensor.reshape(-1, 1) for tensor in tensors)).view_as(tensors[0])
