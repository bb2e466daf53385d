"""Autoregressive maps: MADE's masks, masked autoregressive and inverse autoregressive flows.

Germain et al. 2015 (arXiv 1502.03509), Papamakarios et al. 2017 (arXiv 1705.07057), Kingma et al. 2016
(arXiv 1606.04934).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.bijections.base import Bijection
from genbench.errors import ConfigError
from genbench.functional import elu

__all__ = ["MADE", "InverseAutoregressive", "MaskedAutoregressive", "MaskedLinear", "made_masks"]


def made_masks(features: int, hidden: Sequence[int], order: Sequence[int] | None = None) -> list[Tensor]:
    """Masks of MADE's weights, for one output per feature.

    A unit of degree k sees the first k features of the order; M = [k_out ≥ k_in] between hidden layers and
    M = [k_out > k_in] into the outputs (Germain et al. 2015, section 4), so output i depends only on the features
    before i. Degrees are spread evenly instead of drawn, so that equally many units see each feature.

    Args:
        features: D
        hidden: widths of the hidden layers, at least one.
        order: the features from first to last; 0 … D − 1 if None.

    Returns:
        [hidden[0], D], [hidden[1], hidden[0]], …, [D, hidden[-1]], boolean.
    """
    order = range(features) if order is None else order
    if sorted(order) != list(range(features)):
        raise ConfigError(f"An order of {features} features must hold each of 0 … {features - 1} once.")
    if not hidden or min(hidden) < 1:
        raise ConfigError(f"MADE needs at least one hidden layer, and units in each; hidden is {list(hidden)}.")
    outer = torch.as_tensor(order).argsort() + 1
    degrees = [outer, *(1 + torch.arange(width) * max(features - 1, 1) // width for width in hidden)]
    masks = [after[:, None] >= before for before, after in pairwise(degrees)]
    return [*masks, outer[:, None] > degrees[-1]]


class MaskedLinear(nn.Linear):
    """y = (M ⊙ W) x + b,   M [out, in] of zeros and ones."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.bool())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, torch.where(self.mask, self.weight, 0), self.bias)


class MADE(nn.Module):
    """[B, D] → shift and raw scale, each [B, D]: those of feature i depend on the features before i in the order.

    Args:
        features: D
        hidden: widths of the hidden layers.
        order: the features from first to last; 0 … D − 1 if None.
        context: size of a context vector that all outputs depend on; with 0, a given context is ignored.
    """

    def __init__(
        self, features: int, hidden: Sequence[int], order: Sequence[int] | None = None, context: int = 0
    ) -> None:
        super().__init__()
        *masks, last = made_masks(features, hidden, order)
        self.order = tuple(range(features)) if order is None else tuple(order)
        self.layers = nn.ModuleList([*map(MaskedLinear, masks), MaskedLinear(last.repeat(2, 1))])
        # No hidden unit leads to the first feature's output, so the context also goes directly to the outputs.
        self.context_in = nn.Linear(context, hidden[0], bias=False) if context else None
        self.context_out = nn.Linear(context, 2 * features, bias=False) if context else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if context is None and self.context_in is not None:
            raise ConfigError("MADE was built for a context and got none.")
        first, *rest = self.layers
        h = first(x)
        if self.context_in is not None:
            h = h + self.context_in(context)
        for layer in rest:
            h = layer(elu(h))
        if self.context_out is not None:
            h = h + self.context_out(context)
        shift, scale = h.chunk(2, dim=1)
        return shift, scale


class _Autoregressive(Bijection):
    """An increasing affine map of every feature, with parameters that depend on the features before it.

    One pass forward, D passes backward.
    """

    def __init__(
        self, features: int, hidden: Sequence[int], order: Sequence[int] | None = None, context: int = 0
    ) -> None:
        super().__init__()
        self.made = MADE(features, hidden, order, context)

    def apply_affine(self, x: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """y and the logarithm of its slope, shaped like x, from MADE's outputs of the same shape."""
        raise NotImplementedError(f"{type(self).__name__} does not define apply_affine")

    def undo_affine(self, y: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """x of `apply_affine`, and the logarithm of y's slope."""
        raise NotImplementedError(f"{type(self).__name__} does not define undo_affine")

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_slope = self.apply_affine(x, *self.made(x, context))
        return y, log_slope.sum(1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, total = torch.zeros_like(y), y.new_zeros(len(y))
        for i in self.made.order:
            value, log_slope = self.undo_affine(y[:, i], *(part[:, i] for part in self.made(x, context)))
            here = torch.arange(y.shape[1], device=y.device) == i
            x, total = torch.where(here, value[:, None], x), total - log_slope
        return x, total


class MaskedAutoregressive(_Autoregressive):
    """y_i = (x_i − μ_i) exp(−α_i),   (μ_i, α_i) = MADE(x_<i)_i,   log |det| = −Σ α_i

    Papamakarios et al. 2017 (arXiv 1705.07057), eqs. 3 to 5: data to base in one pass, base to data in D. As in the
    paper, the scale has no bound.

    Args:
        features: D, of x [B, D].
        hidden: widths of MADE's hidden layers.
        order: the features from first to last; 0 … D − 1 if None.
        context: size of the context vector; with 0, a given context is ignored.
    """

    def apply_affine(self, x: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return (x - shift) * torch.exp(-scale), -scale

    def undo_affine(self, y: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return y * torch.exp(scale) + shift, -scale


class InverseAutoregressive(_Autoregressive):
    """y_i = 2σ(2s_i) x_i + m_i,   (m_i, s_i) = MADE(x_<i, h)_i,   σ(s) = 1/(1 + e^−s),   log |det| = Σ log 2σ(2s_i)

    Kingma et al. 2016 (arXiv 1606.04934), eq. 10, with a context h for posteriors: base to data in one pass, data to
    base in D. The scale is bounded, as in their algorithm 1 (eqs. 13 and 14: y = σ x + (1 − σ) m), since exponentials
    of network outputs overflow when several steps follow one another. Theirs contracts x by σ from the start, and
    learns more slowly here; 2σ(2s) = 1 + tanh s starts as the identity, and is exp(s) up to first order.

    Args:
        features: D, of x [B, D].
        hidden: widths of MADE's hidden layers.
        order: the features from first to last; 0 … D − 1 if None.
        context: size of the context vector h; with 0, a given context is ignored.
    """

    def apply_affine(self, x: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        log_slope = F.logsigmoid(2 * scale) + math.log(2)
        return x * log_slope.exp() + shift, log_slope

    def undo_affine(self, y: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        log_slope = F.logsigmoid(2 * scale) + math.log(2)
        return (y - shift) * torch.exp(-log_slope), log_slope
