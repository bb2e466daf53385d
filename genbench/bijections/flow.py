"""A density made of a bijection and a standard normal.

    log q(x) = log N(z; 0, I) + log |det ∂z/∂x|,   z = the base point of x

Rezende & Mohamed 2015 (arXiv 1505.05770), eq. 5; Dinh et al. 2017 (arXiv 1605.08803), eq. 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from genbench.bijections.base import Bijection, sum_event
from genbench.errors import ConfigError
from genbench.functional import LOG_2PI

__all__ = ["Direction", "Flow"]

Direction = Literal["data to base", "base to data"]


class Flow(nn.Module):
    """Standard normal of shape `event_shape`, carried to data by a bijection.

    `direction` is that of the bijection's `forward`: "data to base" makes densities cheap, for maximum likelihood,
    "base to data" makes samples cheap, for a reverse KL. The opposite direction uses the inverse, and raises
    InverseNotAvailable if there is none.

    Args:
        bijection: between data and base.
        event_shape: of a base point, without the batch; data may have another shape of equal size.
        direction: of `bijection.forward`.
    """

    device_and_dtype: Tensor

    def __init__(self, bijection: Bijection, event_shape: Sequence[int], direction: Direction) -> None:
        super().__init__()
        if direction not in get_args(Direction):
            raise ConfigError(f"unknown direction {direction!r}", f"Choose from: {', '.join(get_args(Direction))}.")
        self.bijection = bijection
        self.event_shape = tuple(event_shape)
        self.direction = direction
        # A flow need not have parameters, and sampling needs a device and a dtype.
        self.register_buffer("device_and_dtype", torch.zeros(()), persistent=False)

    def to_base(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [B, *data event] → z [B, *event_shape], log |det ∂z/∂x| [B]"""
        z, log_det = self.bijection(x, context) if self._forward_normalises else self.bijection.inverse(x, context)
        if z.shape[1:] != self.event_shape:
            raise ConfigError(
                f"The base is of shape {self.event_shape}, but the data come to it as {tuple(z.shape[1:])}."
            )
        return z, log_det

    def to_data(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z [B, *event_shape] → x [B, *data event], log |det ∂x/∂z| [B]"""
        x, log_det = self.bijection.inverse(z, context) if self._forward_normalises else self.bijection(z, context)
        return x, log_det

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """log q(x), in nats.

        Args:
            x: [B, *data event]

        Returns:
            [B]
        """
        z, log_det = self.to_base(x, context)
        return self._log_base(z) + log_det

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """n samples, [n, *data event], without gradients; the base's standard deviation is `temperature`."""
        x, _ = self.to_data(temperature * self.draw_base(n, generator), context)
        return x

    def rsample(
        self, n: int, context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """n samples x = g(z) that carry gradients to the parameters, [n, *data event], and log q(x), [n]."""
        return self.push(self.draw_base(n, generator), context)

    def push(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base points z [B, *event_shape] → x = g(z) [B, *data event] and log q(x) [B], with gradients."""
        x, log_det = self.to_data(z, context)
        return x, self._log_base(z) - log_det

    @property
    def _forward_normalises(self) -> bool:
        return self.direction == "data to base"

    def draw_base(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n base points, [n, *event_shape]."""
        like = self.device_and_dtype
        return torch.randn(n, *self.event_shape, device=like.device, dtype=like.dtype, generator=generator)

    def _log_base(self, z: Tensor) -> Tensor:
        return -0.5 * sum_event(z.square()) - 0.5 * LOG_2PI * math.prod(self.event_shape)
