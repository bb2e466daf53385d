"""Likelihoods p(x|z) of images, from a decoder's outputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genbench.functional import log_likelihood_bernoulli_logits, log_likelihood_normal

__all__ = ["LIKELIHOODS", "Bernoulli", "Gaussian", "make_likelihood"]

LIKELIHOODS = ("bernoulli", "gaussian")


class Bernoulli(nn.Module):
    """Independent binary pixels; the decoder's outputs are logits."""

    binary = True
    """Whether pixels must be 0 or 1."""

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """log p(x|z), [B], of images and outputs [B, C, H, W]."""
        return log_likelihood_bernoulli_logits(outputs, x)

    def sample(self, outputs: Tensor) -> Tensor:
        """Images drawn from p(x|z), shaped like the outputs [B, C, H, W]."""
        return torch.bernoulli(torch.sigmoid(outputs))


class Gaussian(nn.Module):
    """N(sigmoid(outputs), σ²), one σ for all pixels.

    Args:
        sigma: σ, of pixels in [0, 1].
        learn: σ is a parameter, starting at `sigma`.
    """

    binary = False
    log_sigma: Tensor

    def __init__(self, sigma: float, learn: bool) -> None:
        super().__init__()
        log_sigma = torch.tensor(math.log(sigma))
        if learn:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma, persistent=False)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """log p(x|z), [B], of images and outputs [B, C, H, W]."""
        mean = torch.sigmoid(outputs)
        return log_likelihood_normal(mean, (2 * self.log_sigma).expand_as(mean), x)

    def sample(self, outputs: Tensor) -> Tensor:
        """Images drawn from p(x|z), shaped like the outputs [B, C, H, W]; pixels may lie outside of [0, 1]."""
        return torch.sigmoid(outputs) + self.log_sigma.exp() * torch.randn_like(outputs)


def make_likelihood(kind: str, sigma: float, learn_sigma: bool) -> Bernoulli | Gaussian:
    """One of LIKELIHOODS; only the Gaussian uses `sigma` and `learn_sigma`."""
    return Bernoulli() if kind == "bernoulli" else Gaussian(sigma, learn_sigma)
