"""Planar flows: one, and many at once (Rezende & Mohamed 2015, arXiv 1505.05770; report 000, problem 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, cast

import torch
from torch import Tensor, nn

from genbench.bijections.flow import Direction, Flow
from genbench.bijections.planar import PlanarStack, constrain, determinant
from genbench.errors import ConfigError
from genbench.registry import Depth, OneOf, register

__all__ = ["PlanarEnsemble", "PlanarFlow"]


@register("model", "planar-flow")
class PlanarFlow(Flow):
    """A standard normal carried by `layers` planar maps; `shape` is one point's [D].

    `direction` is that of the maps: "data to base" makes densities cheap, to fit samples; "base to data" makes
    samples cheap, to fit an energy. The opposite direction uses the maps' inverses.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        layers: Depth = 8,
        direction: Annotated[str, OneOf("data to base", "base to data")] = "data to base",
    ) -> None:
        super().__init__(PlanarStack(_features(shape), layers), shape, cast(Direction, direction))

    def path(self, count: int) -> list[Tensor]:
        """`count` samples on their way from base to data, layer by layer: K + 1 tensors [count, D]."""
        stack = cast(PlanarStack, self.bijection)
        if self.direction == "base to data":
            return stack.path(self.draw_base(count))
        return stack.path(self.sample(count))[::-1]

    @staticmethod
    def side_by_side(flows: Sequence[PlanarFlow]) -> PlanarEnsemble:
        """Copies of the flows' maps as one batched model."""
        return PlanarEnsemble([cast(PlanarStack, flow.bijection) for flow in flows])


class PlanarEnsemble(nn.Module):
    """E stacks of planar maps side by side, each on its own points: [E, B, 2] → [E, B, 2], log |det| [E, B].

    Shorter stacks are padded with maps of w = u = b = 0: exactly the identity, with determinant 1 and zero gradients,
    so no optimizer changes them.

    With E · B numbers per operation, arithmetic dominates Python's overhead. Layers beyond a stack's depth are not
    computed: the deeper flows continue alone.
    """

    def __init__(self, stacks: Sequence[PlanarStack]) -> None:
        super().__init__()
        self.depths = tuple(stack.layers for stack in stacks)
        self.w = nn.Parameter(self._padded([stack.w for stack in stacks]))  # [E, K, 2]
        self.u = nn.Parameter(self._padded([stack.u for stack in stacks]))
        self.b = nn.Parameter(self._padded([stack.b for stack in stacks]))  # [E, K]
        self.ends = sorted(set(self.depths))
        for i, start in enumerate([0, *self.ends[:-1]]):
            deeper = [member for member, depth in enumerate(self.depths) if depth > start]
            self.register_buffer(f"deeper{i}", torch.tensor(deeper), persistent=False)

    def _padded(self, rows: Sequence[Tensor]) -> Tensor:
        return nn.utils.rnn.pad_sequence([row.detach() for row in rows], batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u, slope = constrain(self.w, self.u)
        log_det, start = x.new_zeros(x.shape[:2]), 0
        for i, end in enumerate(self.ends):
            active = self.get_buffer(f"deeper{i}")
            maps = (part[:, start:end].index_select(0, active) for part in (self.w, u, self.b, slope))
            moved, gained = _through(x.index_select(0, active), *maps)
            x, log_det = x.index_copy(0, active, moved), log_det.index_add(0, active, gained)
            start = end
        return x, log_det


def _through(x: Tensor, w: Tensor, u: Tensor, b: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Points [E, B, 2] through the layers w, û [E, K, 2], b and 1 + wᵀû [E, K]; and log |det|, [E, B]."""
    # Coordinates and layers as separate tensors [E, 1]: sums of two products instead of many tiny matrix products.
    columns = (*w.unbind(-1), *u.unbind(-1), b)
    layers = zip(*(column.t().unsqueeze(-1).unbind(0) for column in columns), strict=True)
    (x1, x2), heights = x.unbind(-1), []
    for w1, w2, u1, u2, bias in layers:
        h = torch.addcmul(torch.addcmul(bias, x1, w1), x2, w2).tanh()
        x1, x2 = torch.addcmul(x1, h, u1), torch.addcmul(x2, h, u2)
        heights.append(h)
    log_det = determinant(torch.stack(heights), slope.t().unsqueeze(-1)).log().sum(0)
    return torch.stack([x1, x2], dim=-1), log_det


def _features(shape: Sequence[int]) -> int:
    if len(shape) != 1:
        raise ConfigError(
            f"a planar flow maps vectors, and one sample here has the shape {tuple(shape)}",
            "choose dataset=plane, or model=realnvp for images",
        )
    return math.prod(shape)
