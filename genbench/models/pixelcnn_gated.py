"""Gated PixelCNN: an autoregressive model of binary images without a blind spot.

van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves & Kavukcuoglu 2016 (arXiv 1606.05328). Kernels hold only the
rows and columns that may be seen; outputs below or right of the image are cut off.

Class-conditional (eq. 4, with the class as h): tanh(W_f ∗ x + V_f h) ⊙ sigmoid(W_g ∗ x + V_g h) in every gate.
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
    no shift. What a class adds to the gates is V, a row [V_f; V_g] for each class.
    """

    def __init__(self, inputs: int, channels: int, kernel_size: int, first: bool, classes: int = 0) -> None:
        super().__init__()
        reach = kernel_size // 2
        seen = reach if first else reach + 1
        self.first = first
        self.vertical = CutConv2d(inputs, 2 * channels, (seen, kernel_size), padding=reach)
        self.across = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.horizontal = CutConv2d(inputs, 2 * channels, (1, seen), padding=(0, reach), bias=False)
        self.out = nn.Conv2d(channels, 2 * channels, 1)
        self.of_class = nn.Embedding(classes, 4 * channels) if classes else None

    def class_terms(self, *labels: Tensor) -> tuple[Terms, Terms]:
        """What the class adds in the vertical and in the horizontal gate: V h, [B, 2C, 1, 1], or nothing."""
        if self.of_class is None:
            return (), ()
        vertical, horizontal = self.of_class(*labels)[:, :, None, None].chunk(2, dim=1)
        return (vertical,), (horizontal,)

    def forward(self, v: Tensor, h: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        to_vertical, to_horizontal = self.class_terms(*labels)
        vertical = self.vertical(v)
        horizontal = sum(to_horizontal, self.horizontal(h) + self.across(vertical))
        residual, skip = self.out(gate(horizontal)).chunk(2, dim=1)
        return gate(sum(to_vertical, vertical)), residual if self.first else h + residual, skip


@register("model", "pixelcnn-gated")
class GatedPixelCnn(AutoregressiveImages):
    """Vertical and horizontal stacks of gated convolutions, without a blind spot; skips of all blocks to the output.

    Kernels 7 × 7 in the first block and 5 × 5 in the others. Weights N(0, g²/fan-in), biases 0; g = 2 in the vertical
    stack and 1 elsewhere: a gate halves small inputs, and the vertical stack has no residual connection. With
    `conditional`, a term of the class, at first 0, is added in every gate.
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
        later = (GatedBlock(channels, channels, 5, False, self.classes) for _ in range(blocks - 1))
        self.blocks = nn.ModuleList([GatedBlock(1, channels, 7, True, self.classes), *later])
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, 1, 1, bias=False)
        )
        self._initialize()

    def _initialize(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                gain = 2.0 if name.endswith("vertical") else 1.0
                nn.init.normal_(module.weight, 0.0, gain / math.sqrt(module.weight[0].numel()))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.zeros_(module.weight)

    def network(self, x: Tensor, *labels: Tensor) -> Tensor:
        v, h, skips = x, x, torch.zeros_like(x)
        for block in self.blocks:
            v, h, skip = block(v, h, *labels)
            skips = skips + skip
        logits: Tensor = self.head(skips)
        return logits

    def sampler(self, count: int, *labels: Tensor) -> Sampler:
        return GatedSampler(self, count, *labels)


def gate(x: Tensor) -> Tensor:
    """[B, 2C, …] → [B, C, …]: tanh(x₁) ⊙ sigmoid(x₂)."""
    value, opening = x.chunk(2, dim=1)
    return torch.tanh(value) * torch.sigmoid(opening)


class GatedSampler:
    """GatedPixelCnn: the vertical stack one row at a time, the horizontal stack one position at a time."""

    def __init__(self, model: GatedPixelCnn, count: int, *labels: Tensor) -> None:
        self.head = model.head
        blocks = [module for module in model.blocks if isinstance(module, GatedBlock)]
        self.blocks = [GatedBlockCache(block, count, model.shape[2], *labels) for block in blocks]
        self.image = self.blocks[0].beside

    def start_row(self) -> None:
        v = self.image.row()
        for block in self.blocks:
            v = block.start_row(v)

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

    def __init__(self, block: GatedBlock, count: int, width: int, *labels: Tensor) -> None:
        weight = block.horizontal.weight[:, :, 0]
        self.above = RowWindow(block.vertical.weight, block.vertical.bias, count, width)
        self.beside = ColumnWindow(weight, int(block.horizontal.padding[1]), count, width)
        self.across, self.out, self.out_weight = block.across, block.out, block.out.weight[:, :, 0, 0]
        self.to_vertical, self.to_horizontal = block.class_terms(*labels)

    def start_row(self, v: Tensor) -> Tensor:
        """The row of the vertical stack, [N, inputs, 1, W] → [N, C, 1, W]."""
        vertical = self.above.push(v)
        self.from_above = by_column(sum(self.to_horizontal, self.across(vertical)))
        return gate(sum(self.to_vertical, vertical))

    def output(self, column: int) -> tuple[Tensor, Tensor]:
        """Residual and skip, [N, C]."""
        gated = gate(self.beside.output(column, self.from_above[column]))
        residual, skip = F.linear(gated, self.out_weight, self.out.bias).chunk(2, dim=1)
        return residual, skip
