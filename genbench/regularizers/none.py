"""No penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genbench.registry import register
from genbench.regularizers.base import Critic

__all__ = ["NoRegularizer"]


@register("regularizer", "none")
@dataclass(kw_only=True)
class NoRegularizer:
    """The unregularized game."""

    coefficient: ClassVar[float] = 0.0

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return torch.zeros((), dtype=real.dtype, device=real.device)
