"""Evidence lower bound of a variational auto-encoder.

    ELBO(x) = E_{q(z|x)} log p(x|z) − KL(q(z|x) ‖ p(z))  ≤  log p(x)        in nats

Kingma & Welling 2014 (arXiv 1312.6114), eq. 3, estimated with one sample of z per image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from genbench.functional import kl_gaussian_standard_normal, log_likelihood_normal
from genbench.registry import OneOf, register

__all__ = ["ELBO", "ElboTerms"]


class ElboTerms(NamedTuple):
    """Per image, [B], in nats: ELBO = log_likelihood − kl."""

    log_likelihood: Tensor
    kl: Tensor

    @property
    def elbo(self) -> Tensor:
        return self.log_likelihood - self.kl


@register("loss", "elbo")
@dataclass(kw_only=True)
class ELBO:
    """KL term in closed form (`analytic`) or from the sample itself (`mc`)."""

    kl: Annotated[str, OneOf("analytic", "mc")] = "analytic"

    def terms(self, log_likelihood: Tensor, mu: Tensor, logvar: Tensor, z: Tensor) -> ElboTerms:
        """`log_likelihood` log p(x|z) [B]; posterior mean and log variance, and its sample, [B, L]."""
        if self.kl == "analytic":
            kl = kl_gaussian_standard_normal(mu, logvar)
        else:
            zeros = torch.zeros_like(mu)
            kl = log_likelihood_normal(mu, logvar, z) - log_likelihood_normal(zeros, zeros, z)
        return ElboTerms(log_likelihood, kl)
