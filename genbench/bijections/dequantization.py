"""Dequantization: noise makes integer pixel values continuous, and a weight corrects the likelihood.

    v = (x + u)/L,   u ~ q(u|x) on (0, 1)^D
    log P(x) = log E_q[p(v) w] ≥ E_q[log p(v) + log w],   log w = −log q(u|x) − D log L

Ho et al. 2019 (arXiv 1902.00275), section 3.1: a uniform q, and a learned one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.bijections.base import Bijection, sum_event
from genbench.errors import ConfigError

__all__ = ["Dequantization", "UniformDequantization", "VariationalDequantization"]


class Dequantization(nn.Module):
    """u = δ + (1 − 2δ) n, with noise n in [0, 1] and a margin δ that the density takes into account exactly.

    δ = L/2 · machine epsilon (1.5e-5 for 256 levels in float32), the spacing of floating-point numbers at the largest
    pixel value. So v is never rounded into the next pixel, `quantize` recovers x for every n, and a logit with α = 0
    sees neither 0 nor 1. The likelihood remains a lower bound; it lacks only the mass of p within the margin.

    Args:
        levels: L, a power of two, which makes the division exact.

    Raises:
        ConfigError: for other levels.
    """

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if levels < 2 or levels & (levels - 1):
            raise ConfigError(f"Dequantization is for 2, 4, 8, … levels, and got {levels}.")
        self.levels = levels

    def dequantize(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """One draw.

        Args:
            x: [B, *event], whole numbers 0 … L − 1 in floating point.
            generator: of the draw, on x's device; the global one if None.

        Returns:
            v [B, *event] in (0, 1), log w [B] in nats
        """
        return self.at(x, torch.rand(x.shape, dtype=x.dtype, device=x.device, generator=generator))

    def at(self, x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """`dequantize` for given uniform numbers, [B, *event] in [0, 1); w = |det ∂v/∂uniform|."""
        margin = self.levels / 2 * torch.finfo(x.dtype).eps
        noise, log_det = self._noise(x, uniform)
        scale = math.log1p(-2 * margin) - math.log(self.levels)
        return (x + (margin + (1 - 2 * margin) * noise)) / self.levels, log_det + scale * math.prod(x.shape[1:])

    def centre(self, x: Tensor) -> Tensor:
        """v in the middle of its cell, u = ½."""
        return (x + 0.5) / self.levels

    def quantize(self, v: Tensor) -> Tensor:
        """⌊L v⌋, clamped to 0 … L − 1."""
        return (v * self.levels).floor().clamp(0, self.levels - 1)

    def _noise(self, x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *event] within [0, 1], and log |det| of its Jacobian in `uniform`, [B]."""
        raise NotImplementedError(f"{type(self).__name__} does not define _noise")

    def extra_repr(self) -> str:
        return f"levels={self.levels}"


class UniformDequantization(Dequantization):
    """n uniform: q(u|x) = 1 up to the margin."""

    def _noise(self, x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        return uniform, x.new_zeros(len(x))


class VariationalDequantization(Dequantization):
    """n = sigmoid(f(ε; x)),   ε ~ Logistic(0, 1), the logit of a uniform draw

    log q(n|x) = log p(ε) − log |det ∂f/∂ε| − Σ log σ′(f(ε)). Ho et al. start from a normal ε; with a
    logistic ε and f = identity at initialization, q is uniform at first.

    Args:
        levels: L
        noise: f, of events like x; its context is x scaled to [−1, 1].
    """

    def __init__(self, levels: int, noise: Bijection) -> None:
        super().__init__(levels)
        self.noise = noise

    def _noise(self, x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        # A generator draws an exact 0 once in 2²⁴ numbers; replace it by half of the next larger number.
        start = torch.logit(uniform.clamp(min=torch.finfo(x.dtype).eps / 4))
        end, log_det = self.noise(start, 2 * x / (self.levels - 1) - 1)
        return torch.sigmoid(end), log_det + sum_event(_log_slope(end) - _log_slope(start))


def _log_slope(x: Tensor) -> Tensor:
    """log σ′(x), which is also the logistic density's logarithm."""
    return F.logsigmoid(x) + F.logsigmoid(-x)
