"""Hinge loss.

    critic      E_p max(0, 1 − C(x)) + E_q max(0, 1 + C(x))
    generator  −E_q C(x)

Lim & Ye 2017 (arXiv 1705.02894); Miyato et al. 2018 (arXiv 1802.05957), eqs. 16 and 17. The optimal critic's loss is
2 ∫ min(p, q) = 2 · (1 − TV(P, Q)), so 1 − ½ · loss bounds the total variation distance from below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import relu

from genbench.losses.base import AdversarialLoss
from genbench.registry import register

__all__ = ["Hinge"]


@register("loss", "hinge")
@dataclass(kw_only=True)
class Hinge(AdversarialLoss):
    symbol: ClassVar[str] = "total_variation"
    resting: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def metric(self, real: Tensor, fake: Tensor) -> Tensor:
        return 1 - 0.5 * self.critic_loss(real, fake)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -fake.mean()
