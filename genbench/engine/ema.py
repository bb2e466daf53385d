"""Exponential moving average of a network."""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage:
    """θ̃ ← α θ̃ + (1 − α) θ over all parameters; buffers are copied (Polyak & Juditsky 1992).

    Starts at the network's own values, so no bias correction is needed.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self._averages: list[torch.Tensor] = list(self.network.parameters())
        self._values: list[torch.Tensor] = list(network.parameters())
        self._buffers = list(zip(self.network.buffers(), network.buffers(), strict=True))

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self._averages, self._values, 1 - self.decay)
        for average, value in self._buffers:
            average.copy_(value)
