"""Factoring out: half of the dimensions skip the remaining layers, in a multiscale flow that is one bijection."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genbench.bijections.base import Bijection
from genbench.errors import ConfigError

__all__ = ["Split"]


class Split(Bijection):
    """(a, b) → flatten(f(a), b): the first half of the channels goes through f, the second half stays as it is.

    Dinh et al. 2017 (arXiv 1605.08803), section 3.6. log |det| is that of f. f may change the shape of a, and may
    contain another Split.

    Args:
        event_shape: [2C, H, W] of x, or any other number of dimensions after the channels.
        inner: f, of events [C, H, W].

    Raises:
        ConfigError: where the channels cannot be halved.
    """

    def __init__(self, event_shape: Sequence[int], inner: Bijection) -> None:
        super().__init__()
        channels, *rest = event_shape
        if channels % 2:
            raise ConfigError(f"Split halves the channels, and an event of {tuple(event_shape)} has {channels}.")
        self.half_shape = (channels // 2, *rest)
        self.inner = inner
        self._inner_shape: torch.Size | None = None

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [B, 2C, H, W] → y [B, 2C·H·W], log |det| [B]"""
        a, b = x.chunk(2, dim=1)
        a, log_det = self.inner(a, context)
        return torch.cat([a.flatten(1), b.flatten(1)], dim=1), log_det

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y [B, 2C·H·W] → x [B, 2C, H, W], log |det| [B]"""
        a, b = y.split(math.prod(self.half_shape), dim=1)
        a, log_det = self.inner.inverse(a.unflatten(1, self._shape_inside(y, context)), context)
        return torch.cat([a, b.unflatten(1, self.half_shape)], dim=1), log_det

    def _shape_inside(self, like: Tensor, context: Tensor | None) -> torch.Size:
        """Shape of the events that f returns."""
        # Found by sending one event through f, since a flow just loaded may invert before it goes forward; through a
        # copy in evaluation mode, so that the event does not initialize ActNorm.
        if self._inner_shape is None:
            probe = copy.deepcopy(self.inner).eval()
            with torch.no_grad():
                y, _ = probe(like.new_full((1, *self.half_shape), 0.5), None if context is None else context[:1])
            self._inner_shape = y.shape[1:]
        return self._inner_shape
