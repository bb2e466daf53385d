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
        self._source = network

    @torch.no_grad()
    def update(self) -> None:
        averages: list[torch.Tensor] = list(self.network.parameters())
        values: list[torch.Tensor] = list(self._source.parameters())
        torch._foreach_lerp_(averages, values, 1 - self.decay)
        for average, value in zip(self.network.buffers(), self._source.buffers(), strict=True):
            average.copy_(value)
