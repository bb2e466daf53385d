"""Gradient penalty, two-sided.

    GP = E (‖∇C(εx + (1−ε)y)‖₂ − 1)²        x ~ p, y ~ q, ε ~ U(0, 1) per sample

Gulrajani et al. 2017 (arXiv 1704.00028), eq. 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genbench.registry import NonNegativeFloat, register
from genbench.regularizers.base import Critic, gradient_norms

__all__ = ["GradientPenalty", "interpolate"]


def interpolate(real: Tensor, fake: Tensor) -> Tensor:
    """A uniformly random point on the line between each pair of samples."""
    epsilon = torch.rand(len(real), *[1] * (real.dim() - 1), dtype=real.dtype, device=real.device)
    return epsilon * real + (1 - epsilon) * fake


@register("regularizer", "gp")
@dataclass(kw_only=True)
class GradientPenalty:
    coefficient: NonNegativeFloat = 10.0

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return (gradient_norms(critic, interpolate(real, fake)) - 1).square().mean()
