"""The interface of adversarial losses."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

__all__ = ["AdversarialLoss"]


class AdversarialLoss:
    """A two-player objective on the critic's scores, one per sample: high on real data.

    By default the minimax game: the critic maximizes the estimated divergence, the generator minimizes it.
    `real` and `fake` are scores of any shape; every method returns a scalar.
    """

    symbol: ClassVar[str]
    """Name of the approximated divergence in metrics and pictures."""

    resting: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    """The constant scores, from and to, that an optimal critic may give where data and model are the same."""

    relative: ClassVar[bool] = False
    """Whether the generator's gradient depends on the real scores; if not, they may be one step old."""

    @property
    def minimax(self) -> bool:
        """Whether the critic maximizes the metric itself, which then is computed once."""
        return type(self).critic_loss is AdversarialLoss.critic_loss

    def metric(self, real: Tensor, fake: Tensor) -> Tensor:
        """The divergence between data and model that these scores estimate."""
        raise NotImplementedError

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the critic minimizes."""
        return -self.metric(real, fake)

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the generator minimizes; `real` carries no gradient to it."""
        return self.metric(real, fake)
