"""Jensen–Shannon divergence, saturating.

    JSD(P, Q) = ½ · max_C ( E_p log σ(C(x)) + E_q log σ(−C(x)) + log 4 )        in nats, within [0, log 2]

Goodfellow et al. 2014 (arXiv 1406.2661), eq. 1, scaled so that its optimum is the divergence. Both players see
the same value: the critic maximizes it, the generator minimizes it (the saturating minimax game).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from genbench.registry import register

__all__ = ["JensenShannon"]


@register("loss", "jsd")
@dataclass(kw_only=True)
class JensenShannon:
    """The reports' JSD (report 000, Q2.6)."""

    symbol: ClassVar[str] = "jsd"

    def metric(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * (logsigmoid(real).mean() + logsigmoid(-fake).mean() + math.log(4))

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -self.metric(real, fake)

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.metric(real, fake)
