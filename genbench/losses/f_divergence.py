"""f-divergences by their variational bound.

    D_f(P ‖ Q) = ∫ q f(p/q) dx = max_v  E_p g(v(x)) − E_q f*(g(v(x)))

Nowozin, Cseke & Tomioka 2016 (arXiv 1606.00709), eqs. 4 and 7, tables 1 and 2: the output activation g maps
the critic's raw score v to the domain of the convex conjugate f*. f*(g(v)) is one expression, which is finite where
f* of a rounded g is not. The Jensen–Shannon divergence is in `jsd.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genbench.losses.base import AdversarialLoss
from genbench.registry import register

__all__ = ["FDivergence"]


class FDivergence(AdversarialLoss):
    """Critic and generator play for the bound's value. A subclass defines one f-divergence."""

    @staticmethod
    def activation(v: Tensor) -> Tensor:
        """g(v)"""
        raise NotImplementedError("an f-divergence must define activation")

    @staticmethod
    def conjugate(v: Tensor) -> Tensor:
        """f*(g(v)), of the raw score v"""
        raise NotImplementedError("an f-divergence must define conjugate")

    def metric(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.activation(real).mean() - self.conjugate(fake).mean()


@register("loss", "squared_hellinger")
@dataclass(kw_only=True)
class SquaredHellinger(FDivergence):
    """Doubled Hellinger distance, ∫ (√p − √q)² = 2 H², within [0, 2]: g = 1 − e^−v, f*(t) = t / (1 − t)."""

    symbol: ClassVar[str] = "squared_hellinger"
    resting: ClassVar[tuple[float, float]] = (0.0, 0.0)

    @staticmethod
    def activation(v: Tensor) -> Tensor:
        return -torch.expm1(-v)

    @staticmethod
    def conjugate(v: Tensor) -> Tensor:
        return torch.expm1(v)


@register("loss", "kl")
@dataclass(kw_only=True)
class KullbackLeibler(FDivergence):
    """Kullback–Leibler divergence, ∫ p log(p/q): g = v, f*(t) = e^(t − 1)."""

    symbol: ClassVar[str] = "kl"
    resting: ClassVar[tuple[float, float]] = (1.0, 1.0)

    @staticmethod
    def activation(v: Tensor) -> Tensor:
        return v

    @staticmethod
    def conjugate(v: Tensor) -> Tensor:
        return torch.exp(v - 1)


@register("loss", "reverse_kl")
@dataclass(kw_only=True)
class ReverseKullbackLeibler(FDivergence):
    """Reverse Kullback–Leibler divergence, ∫ q log(q/p): g = −e^−v, f*(t) = −1 − log(−t)."""

    symbol: ClassVar[str] = "reverse_kl"
    resting: ClassVar[tuple[float, float]] = (0.0, 0.0)

    @staticmethod
    def activation(v: Tensor) -> Tensor:
        return -torch.exp(-v)

    @staticmethod
    def conjugate(v: Tensor) -> Tensor:
        return v - 1


@register("loss", "pearson_chi2")
@dataclass(kw_only=True)
class PearsonChi2(FDivergence):
    """Pearson's χ², ∫ (p − q)²/q: g = v, f*(t) = t²/4 + t."""

    symbol: ClassVar[str] = "pearson_chi2"
    resting: ClassVar[tuple[float, float]] = (0.0, 0.0)

    @staticmethod
    def activation(v: Tensor) -> Tensor:
        return v

    @staticmethod
    def conjugate(v: Tensor) -> Tensor:
        return v.square() / 4 + v


@register("loss", "total_variation")
@dataclass(kw_only=True)
class TotalVariation(FDivergence):
    """Total variation, ½ ∫ |p − q|, within [0, 1]: g = ½ tanh v, f*(t) = t.

    The bound is tight in the limit of large scores only.
    """

    symbol: ClassVar[str] = "total_variation"

    @staticmethod
    def activation(v: Tensor) -> Tensor:
        return torch.tanh(v) / 2

    @staticmethod
    def conjugate(v: Tensor) -> Tensor:
        return torch.tanh(v) / 2
