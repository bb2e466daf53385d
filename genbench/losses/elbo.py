"""Bounds on the log-likelihood of a latent-variable model.

    ELBO(x) = E_{q(z|x)} log p(x|z) − KL(q(z|x) ‖ p(z))  ≤  log p(x)        in nats

Kingma & Welling 2014 (arXiv 1312.6114), eq. 3, estimated with one sample of z per image.

    L_K(x) = E log 1/K Σ_k w_k,   w_k = p(x|z_k) p(z_k) / q(z_k|x)

Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), eq. 8: L_1 is the ELBO, and L_K grows with K towards log p(x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from genbench.errors import ConfigError
from genbench.functional import log_mean_exp
from genbench.registry import NonNegativeFloat, NonNegativeInt, OneOf, Range, register

__all__ = ["ELBO", "ElboTerms", "doubly_reparameterised"]


class ElboTerms(NamedTuple):
    """Per image, in nats: log p(x|z) [B], and the terms whose sum is the KL divergence, [B, P].

    P is the number of latents L, or 1 if the KL term is no sum over latents.
    """

    log_likelihood: Tensor
    kl_parts: Tensor

    @property
    def kl(self) -> Tensor:
        return self.kl_parts.sum(1)

    @property
    def elbo(self) -> Tensor:
        return self.log_likelihood - self.kl


@register("loss", "elbo")
@dataclass(kw_only=True)
class ELBO:
    """KL term in closed form (`analytic`) or estimated from the sample (`mc`), with a weight and a floor.

    `beta` is the weight of the KL term (Higgins et al. 2017, β-VAE), which rises linearly from 0 over the first
    `kl_anneal_steps` updates (Bowman et al. 2016, arXiv 1511.06349). With `free_bits` λ, in nats per latent, the
    objective has Σ_d max(λ, KL_d) instead, of means over the batch (Kingma et al. 2016, arXiv 1606.04934, eq. 15); a
    KL term of one part has the floor L·λ. With `samples` K > 1 the objective is L_K, its gradient doubly
    reparameterised. Raises ConfigError for incompatible settings.
    """

    kl: Annotated[str, OneOf("analytic", "mc")] = "analytic"
    beta: NonNegativeFloat = 1.0
    kl_anneal_steps: NonNegativeInt = 0
    free_bits: NonNegativeFloat = 0.0
    samples: Annotated[int, Range(minimum=1, maximum=10_000)] = 1

    def __post_init__(self) -> None:
        if self.samples == 1:
            return
        if self.kl == "analytic":
            raise ConfigError(
                f"the bound of {self.samples} samples has no KL term in closed form",
                "set loss.kl=mc or loss.samples=1",
            )
        if (self.beta, self.kl_anneal_steps, self.free_bits) != (1.0, 0, 0.0):
            raise ConfigError(
                f"the bound of {self.samples} samples has no KL term to weigh or to floor",
                "leave out loss.beta, loss.kl_anneal_steps and loss.free_bits, or set loss.samples=1",
            )

    def kl_weight(self, step: int) -> float:
        """Weight of the KL term at update `step` = 0, 1, …"""
        return self.beta * (min(1.0, step / self.kl_anneal_steps) if self.kl_anneal_steps else 1.0)

    def objective(self, terms: ElboTerms, latent_dim: int, kl_weight: Tensor | float = 1.0) -> Tensor:
        """What training maximizes with K = 1, in nats per image: a scalar."""
        kl = terms.kl.mean()
        if self.free_bits:
            parts = terms.kl_parts.mean(0)
            kl = parts.clamp(min=self.free_bits * latent_dim / len(parts)).sum()
        return terms.log_likelihood.mean() - kl_weight * kl


def doubly_reparameterised(log_weights: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """L_K of every image [B], and a scalar whose gradient estimates the gradient of their mean.

    Tucker et al. 2019 (arXiv 1810.04152), eq. 8. With w̄_k = w_k / Σ_j w_j, a parameter of the density of z₀ gets
    Σ_k w̄_k² ∂log w_k/∂z₀ · ∂z₀/∂φ, any other Σ_k w̄_k ∂log w_k/∂θ. The bound is an integral over z₀, so the layers
    of a flow posterior, z = f(z₀), are among the others. A hook multiplies the gradient at `base` by w̄_k a second
    time.

    Args:
        log_weights: [B, K], with the parameters of log N(z₀; μ, σ²) detached.
        base: z₀, [B · K, L], from which log_weights were computed; requires a gradient.
    """
    normalized = torch.softmax(log_weights.detach(), dim=1)
    again = normalized.reshape(-1, 1)
    base.register_hook(lambda gradient: again * gradient)
    return log_mean_exp(log_weights), (normalized * log_weights).sum(1).mean()
