"""Gradient penalties on the lines between real and fake samples.

GP = E (‖∇C(x̂)‖₂ − 1)²              two-sided: Gulrajani et al. 2017 (arXiv 1704.00028), eq. 3
LP = E max(0, ‖∇C(x̂)‖₂ − 1)²        one-sided: Petzka, Fischer & Lukovnikov 2018 (arXiv 1709.08894), eq. 8

x̂ = εx + (1−ε)y        x ~ p, y ~ q, ε ~ U(0, 1) per sample
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import relu

from genbench.registry import NonNegativeFloat, PositiveInt, register
from genbench.regularizers.base import Critic, Regularizer, gradient_norms, interpolate

__all__ = ["GradientPenalty", "LipschitzPenalty"]


@register("regularizer", "gp")
@dataclass(kw_only=True)
class GradientPenalty(Regularizer):
    """The two-sided one: the norm of the gradient is drawn to 1."""

    coefficient: NonNegativeFloat = 10.0
    every: PositiveInt = 1

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (gradient_norms(critic, interpolate(real, fake)) - 1).square().mean()


@register("regularizer", "lp")
@dataclass(kw_only=True)
class LipschitzPenalty(Regularizer):
    """The one-sided one: norms above 1 are penalized."""

    coefficient: NonNegativeFloat = 10.0
    every: PositiveInt = 1

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return relu(gradient_norms(critic, interpolate(real, fake)) - 1).square().mean()
