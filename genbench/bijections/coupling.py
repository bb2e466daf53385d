"""Affine coupling, Dinh et al. 2017 (arXiv 1605.08803), eqs. 4 to 9.

y = b ⊙ x + (1 − b) ⊙ (x ⊙ exp(s(b ⊙ x)) + t(b ⊙ x)),   log |det| = Σ (1 − b) ⊙ s
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genbench.bijections.base import Bijection, sum_event
from genbench.errors import ConfigError

__all__ = ["AffineCoupling", "channel_mask", "checkerboard_mask"]

MASKS = "cpu"  # whatever the default device is: a mask's values decide the size of layers


class AffineCoupling(Bijection):
    """Where the mask is 1, x passes unchanged and determines the scale and shift of x where the mask is 0.

    s = g ⊙ tanh(raw) with a learned g per channel, which bounds the scale.

    Args:
        mask: b, of the event's shape, of zeros and ones.
        conditioner: [B, C, …] → [B, 2C, …], raw log-scale and shift, concatenated along dimension 1. With a last
            layer of zeros the coupling starts as the identity.
        conditional: the conditioner takes the context as its second argument; otherwise a context is ignored.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, conditioner: nn.Module, *, conditional: bool = False) -> None:
        super().__init__()
        if mask.dim() == 0 or not ((mask == 0) | (mask == 1)).all():
            raise ConfigError(
                "A coupling's mask must hold nothing but 0 and 1.",
                "1 is passed on unchanged, 0 is transformed; see checkerboard_mask and channel_mask.",
            )
        self.register_buffer("mask", mask.bool())
        self.conditioner = conditioner
        self.conditional = conditional
        self.log_scale_bound = nn.Parameter(torch.ones(len(mask), *[1] * (mask.dim() - 1)))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._condition(x, context)
        return torch.where(self.mask, x, x * log_scale.exp() + shift), sum_event(log_scale)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._condition(y, context)
        return torch.where(self.mask, y, (y - shift) * torch.exp(-log_scale)), -sum_event(log_scale)

    def _condition(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Log-scale and shift, both [B, *event]; the log-scale is 0 where the mask is 1."""
        if self.conditional and context is None:
            raise ConfigError("This coupling was built for a context and got none.")
        # `where` instead of a product: with 0 · inf = NaN an overflow of the hidden half would reach the conditioner.
        passed = torch.where(self.mask, x, 0)
        out = self.conditioner(passed, context) if self.conditional else self.conditioner(passed)
        if out.shape[1] != 2 * x.shape[1] or out.shape[2:] != x.shape[2:]:
            wanted = (2 * x.shape[1], *x.shape[2:])
            raise ConfigError(
                f"The conditioner returns {tuple(out.shape[1:])} per sample, a coupling needs {wanted}."
            )
        raw, shift = out.chunk(2, dim=1)
        return torch.where(self.mask, 0, self.log_scale_bound * raw.tanh()), shift


def checkerboard_mask(event_shape: Sequence[int], *, flip: bool = False) -> Tensor:
    """1 where the indices of the last two dimensions add up to an even number; features [D] alternate.

    >>> checkerboard_mask((1, 2, 3)).int()
    tensor([[[1, 0, 1],
             [0, 1, 0]]], dtype=torch.int32)
    """
    parity = torch.zeros(tuple(event_shape), dtype=torch.long, device=MASKS)
    for axis in range(max(len(event_shape) - 2, 0), len(event_shape)):
        index = torch.arange(event_shape[axis], device=MASKS)
        parity = parity + index.reshape(-1, *[1] * (len(event_shape) - 1 - axis))
    return parity % 2 == int(flip)


def channel_mask(event_shape: Sequence[int], *, flip: bool = False) -> Tensor:
    """1 in the first half of the channels, which is the larger one if their number is odd.

    >>> channel_mask((4,)).int()
    tensor([1, 1, 0, 0], dtype=torch.int32)
    """
    channels, *rest = event_shape
    first = torch.arange(channels, device=MASKS) < (channels + 1) // 2
    return (first != flip).reshape(-1, *[1] * len(rest)).expand(channels, *rest).contiguous()
