"""Relativistic pairing loss: is a real sample more realistic than a fake one?

    critic      E −log σ(C(x) − C(y))        x ~ p, y ~ q in pairs
    generator   E −log σ(C(y) − C(x))

Jolicoeur-Martineau 2018 (arXiv 1807.00734); R3GAN, Huang et al. 2024 (arXiv 2501.05441), eq. 2, where it is stable
together with R1 and R2. A constant critic has loss log 2, so log 2 − loss is the divergence of that game, within
[0, log 2].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from genbench.losses.base import AdversarialLoss
from genbench.registry import register

__all__ = ["Relativistic"]


@register("loss", "relativistic")
@dataclass(kw_only=True)
class Relativistic(AdversarialLoss):
    """The k-th real score is paired with the k-th fake one, so their numbers must be equal."""

    symbol: ClassVar[str] = "relativistic"
    relative: ClassVar[bool] = True

    def metric(self, real: Tensor, fake: Tensor) -> Tensor:
        return math.log(2) - self.critic_loss(real, fake)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(fake - real).mean()

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(real - fake).mean()
