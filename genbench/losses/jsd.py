"""Jensen–Shannon divergence: saturating (both players the same value) and non-saturating.

    JSD(P, Q) = ½ · max_C ( E_p log σ(C(x)) + E_q log σ(−C(x)) + log 4 )        in nats, within [0, log 2]

Goodfellow et al. 2014 (arXiv 1406.2661), eq. 1, scaled so that its optimum is the divergence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from genbench.losses.base import AdversarialLoss
from genbench.registry import register

__all__ = ["JensenShannon", "NonSaturating"]


@register("loss", "jsd")
@dataclass(kw_only=True)
class JensenShannon(AdversarialLoss):
    """The reports' JSD, the saturating minimax game (report 000, Q2.6)."""

    symbol: ClassVar[str] = "jsd"
    resting: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def metric(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * (logsigmoid(real).mean() + logsigmoid(-fake).mean() + math.log(4))


@register("loss", "nonsaturating")
@dataclass(kw_only=True)
class NonSaturating(JensenShannon):
    """The generator maximizes E_q log σ(C(x)) instead, whose gradient does not vanish when the critic is confident.

    Goodfellow et al. 2014, section 3. Both losses without JSD's ½, as the literature has them.
    """

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-fake).mean()
