"""R1: zero-centred gradient penalty on real data.

    R1 = E_p ‖∇C(x)‖²

Mescheder, Geiger & Nowozin 2018 (arXiv 1801.04406), eq. 9, without its ½: coefficient c here is their γ = 2c.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from genbench.registry import NonNegativeFloat, register
from genbench.regularizers.base import Critic, gradients

__all__ = ["R1"]


@register("regularizer", "r1")
@dataclass(kw_only=True)
class R1:
    coefficient: NonNegativeFloat = 1.0

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return gradients(critic, real).square().sum(dim=1).mean()
