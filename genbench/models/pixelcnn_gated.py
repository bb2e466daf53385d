"""Gated PixelCNN: an autoregressive model of binary images without a blind spot.

van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves & Kavukcuoglu 2016 (arXiv 1606.05328). Kernels hold only the
rows and columns that may be seen; outputs below or right of the image are cut off.

Class-conditional (eq. 5, where s is a map of each class): tanh(W_f ∗ x + V_f ∗ s) ⊙ sigmoid(W_g ∗ x + V_g ∗ s) in
every gate. A map tells where a digit's strokes may be; terms that are the same everywhere (eq. 4) learn that late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.models.autoregressive import AutoregressiveImages, Sampler
from genbench.models.conditioning import known_classes
from genbench.models.windows import ColumnWindow, RowWindow, by_column
from genbench.registry import Depth, Width, register

__all__ = ["GatedPixelCnn"]

MAP_CHANNELS = 16  # of a class's map
MAP_SCALE = 0.1  # standard deviation of its initial values

Terms = tuple[Tensor, ...]


class CutConv2d(nn.Conv2d):
    """Convolution with the surplus outputs below and right of the image cut off."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :, : x.shape[2], : x.shape[3]]


class GatedBlock(nn.Module):
    """One layer of figure 2 of arXiv 1606.05328: vertical and horizontal features → the same, and a skip.

    The vertical stack sees all columns of the rows above the pixel; the horizontal stack sees the pixels to its left
    and the vertical stack. In the first block both inputs are the image, neither stack sees the pixel itself, and
    there is no residual connection. The vertical stack omits the pixel's own row from the start, so later blocks need
    no shift. V maps the channels of a class's map to what is added in both gates.
    """

    def __init__(self, inputs: int, channels: int, kernel_size: int, first: bool, map_channels: int = 0) -> None:
        super().__init__()
        reach = kernel_size // 2
        seen = reach if first else reach + 1
        self.first = first
        self.vertical = CutConv2d(inputs, 2 * channels, (seen, kernel_size), padding=reach)
        self.across = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.horizontal = CutConv2d(inputs, 2 * channels, (1, seen), padding=(0, reach), bias=False)
        self.out = nn.Conv2d(channels, 2 * channels, 1)
        self.from_map = nn.Conv2d(map_channels, 4 * channels, 1, bias=False) if map_channels else None

    def class_terms(self, *maps: Tensor) -> tuple[Terms, Terms]:
        """What maps [B, M, H, W] add in the vertical and in the horizontal gate: V ∗ s, [B, 2C, H, W], or nothing."""
        if self.from_map is None:
            return (), ()
        vertical, horizontal = self.from_map(*maps).chunk(2, dim=1)
        return (vertical,), (horizontal,)

    def forward(self, v: Tensor, h: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        to_vertical, to_horizontal = self.class_terms(*maps)
        vertical = self.vertical(v)
        horizontal = sum(to_horizontal, self.horizontal(h) + self.across(vertical))
        residual, skip = self.out(gate(horizontal)).chunk(2, dim=1)
        return gate(sum(to_vertical, vertical)), residual if self.first else h + residual, skip


@register("model", "pixelcnn-gated")
class GatedPixelCnn(AutoregressiveImages):
    """Vertical and horizontal stacks of gated convolutions, without a blind spot; skips of all blocks to the output.

    Kernels 7 × 7 in the first block and 5 × 5 in the others. Weights N(0, g²/fan-in), biases 0; g = 2 in the vertical
    stack and 1 elsewhere: a gate halves small inputs, and the vertical stack has no residual connection. With
    `conditional`, every class has a map of MAP_CHANNELS, at first N(0, 0.1²), whose terms every gate adds.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        *,
        channels: Width = 32,
        blocks: Depth = 12,
        conditional: bool = False,
    ) -> None:
        super().__init__(shape)
        self.classes = known_classes(conditional, classes)
        map_channels = MAP_CHANNELS if self.classes else 0
        later = (GatedBlock(channels, channels, 5, False, map_channels) for _ in range(blocks - 1))
        self.blocks = nn.ModuleList([GatedBlock(1, channels, 7, True, map_channels), *later])
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, 1, 1, bias=False)
        )
        self.maps = (
            nn.Parameter(MAP_SCALE * torch.randn(self.classes, map_channels, *shape[1:])) if self.classes else None
        )
        self._initialize()

    def _initialize(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                gain = 2.0 if name.endswith("vertical") else 1.0
                nn.init.normal_(module.weight, 0.0, gain / math.sqrt(module.weight[0].numel()))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def maps_of(self, *labels: Tensor) -> tuple[Tensor, ...]:
        """The maps [B, M, H, W] of classes [B]; none without classes."""
        return () if self.maps is None else (self.maps.index_select(0, *labels),)

    def network(self, x: Tensor, *labels: Tensor) -> Tensor:
        v, h, skips = x, x, torch.zeros_like(x)
        maps = self.maps_of(*labels)
        for block in self.blocks:
            v, h, skip = block(v, h, *maps)
            skips = skips + skip
        logits: Tensor = self.head(skips)
        return logits

    def sampler(self, count: int, *labels: Tensor) -> Sampler:
        return GatedSampler(self, count, *self.maps_of(*labels))


def gate(x: Tensor) -> Tensor:
    """[B, 2C, …] → [B, C, …]: tanh(x₁) ⊙ sigmoid(x₂)."""
    value, opening = x.chunk(2, dim=1)
    return torch.tanh(value) * torch.sigmoid(opening)


class GatedSampler:
    """GatedPixelCnn: the vertical stack one row at a time, the horizontal stack one position at a time."""

    def __init__(self, model: GatedPixelCnn, count: int, *maps: Tensor) -> None:
        self.head = model.head
        blocks = [module for module in model.blocks if isinstance(module, GatedBlock)]
        self.blocks = [GatedBlockCache(block, count, model.shape[2], *maps) for block in blocks]
        self.image = self.blocks[0].beside
        self.row = -1

    def start_row(self) -> None:
        self.row += 1
        v = self.image.row()
        for block in self.blocks:
            v = block.start_row(v, self.row)

    def logits(self, column: int) -> Tensor:
        h, skips = self.blocks[0].output(column)
        for block in self.blocks[1:]:
            block.beside.put(column, h)
            residual, skip = block.output(column)
            h, skips = h + residual, skips + skip
        logits: Tensor = self.head(skips[:, :, None, None])
        return logits[:, 0, 0, 0]

    def set(self, column: int, pixels: Tensor) -> None:
        self.image.put(column, pixels[:, None])


class GatedBlockCache:
    """A GatedBlock one position at a time, without the residual connection."""

    def __init__(self, block: GatedBlock, count: int, width: int, *maps: Tensor) -> None:
        weight = block.horizontal.weight[:, :, 0]
        self.above = RowWindow(block.vertical.weight, block.vertical.bias, count, width)
        self.beside = ColumnWindow(weight, int(block.horizontal.padding[1]), count, width)
        self.across, self.out, self.out_weight = block.across, block.out, block.out.weight[:, :, 0, 0]
        self.to_vertical, self.to_horizontal = block.class_terms(*maps)

    def start_row(self, v: Tensor, row: int) -> Tensor:
        """This row of the vertical stack, [N, inputs, 1, W] → [N, C, 1, W]."""
        vertical = self.above.push(v)
        to_vertical, to_horizontal = (
            [term[:, :, row : row + 1] for term in terms] for terms in (self.to_vertical, self.to_horizontal)
        )
        self.from_above = by_column(sum(to_horizontal, self.across(vertical)))
        return gate(sum(to_vertical, vertical))

    def output(self, column: int) -> tuple[Tensor, Tensor]:
        """Residual and skip, [N, C]."""
        gated = gate(self.beside.output(column, self.from_above[column]))
        residual, skip = F.linear(gated, self.out_weight, self.out.bias).chunk(2, dim=1)
        return residual, skip
