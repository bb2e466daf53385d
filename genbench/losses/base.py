"""The signature that every adversarial loss has."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["AdversarialLoss"]


class AdversarialLoss(Protocol):
    """A two-player objective on the critic's scores, one per sample: high on real data.

    `real` and `fake` are scores of any shape; every method returns a scalar.
    """

    symbol: str
    """The approximated divergence, as metrics and pictures name it."""

    def metric(self, real: Tensor, fake: Tensor) -> Tensor:
        """The divergence between data and model that these scores estimate."""

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the critic minimizes."""

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the generator minimizes; `real` carries no gradient to it."""
