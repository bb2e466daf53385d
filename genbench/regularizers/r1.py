"""Zero-centred gradient penalties on the samples themselves.

    R1 = E_p ‖∇C(x)‖²        R2 = E_q ‖∇C(y)‖²

Mescheder, Geiger & Nowozin 2018 (arXiv 1801.04406), eq. 9, without its ½: coefficient c here is their γ = 2c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from genbench.registry import NonNegativeFloat, PositiveInt, register
from genbench.regularizers.base import Critic, Regularizer, gradients

__all__ = ["R1", "R1R2", "R2"]


def _mean_square(critic: Critic, samples: Tensor) -> Tensor:
    return gradients(critic, samples).square().sum(dim=1).mean()


@register("regularizer", "r1")
@dataclass(kw_only=True)
class R1(Regularizer):
    """R1, at real samples."""

    coefficient: NonNegativeFloat = 1.0
    every: PositiveInt = 1

    at_real: ClassVar[bool] = True

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return _mean_square(critic, real)


@register("regularizer", "r2")
@dataclass(kw_only=True)
class R2(Regularizer):
    """R2, at fake samples."""

    coefficient: NonNegativeFloat = 1.0
    every: PositiveInt = 1

    at_fake: ClassVar[bool] = True

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return _mean_square(critic, fake)


@register("regularizer", "r1r2")
@dataclass(kw_only=True)
class R1R2(Regularizer):
    """Both, with one coefficient (R3GAN, Huang et al. 2024, arXiv 2501.05441, section 2.2)."""

    coefficient: NonNegativeFloat = 1.0
    every: PositiveInt = 1

    at_real: ClassVar[bool] = True
    at_fake: ClassVar[bool] = True

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return _mean_square(critic, real) + _mean_square(critic, fake)
