"""Wasserstein-1 distance in its Kantorovich–Rubinstein dual form.

    W1(P, Q) = max_{‖C‖_Lip ≤ 1}  E_p C(x) − E_q C(x)

Arjovsky, Chintala & Bottou 2017 (arXiv 1701.07875), eq. 2. A regularizer enforces the Lipschitz bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from genbench.losses.base import AdversarialLoss
from genbench.registry import register

__all__ = ["Wasserstein1"]


@register("loss", "w1")
@dataclass(kw_only=True)
class Wasserstein1(AdversarialLoss):
    """The critic maximizes the difference of means, the generator minimizes it."""

    symbol: ClassVar[str] = "w1"

    def metric(self, real: Tensor, fake: Tensor) -> Tensor:
        return real.mean() - fake.mean()
