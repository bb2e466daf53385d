"""PixelCNN: an autoregressive model of binary images with masked convolutions.

van den Oord, Kalchbrenner & Kavukcuoglu 2016 (arXiv 1601.06759). Kernels hold only the rows that may be seen; outputs
below the image are cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from genbench.models.autoregressive import AutoregressiveImages, Sampler
from genbench.models.conv_vae import INIT_STD, ResidualBlock
from genbench.models.initialization import initialize
from genbench.models.windows import ColumnWindow, RowWindow, by_column
from genbench.registry import Depth, Width, register

__all__ = ["MaskedConv2d", "PixelCnn"]


class MaskedConv2d(nn.Conv2d):
    """Convolution whose output at a pixel sees the pixels before it in raster order (mask A), or itself as well (B).

    [B, inputs, H, W] → [B, outputs, H, W]. The weight is [outputs, inputs, reach + 1, kernel_size] with
    reach = ⌊kernel_size/2⌋; forward masks the pixels of its last row that come later, without changing the weight.
    Raises ValueError for an even kernel size, which has no centre.
    """

    mask: Tensor

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, mask: Literal["A", "B"], bias: bool = True
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"a masked convolution needs a kernel with a centre, not one of {kernel_size}")
        reach = kernel_size // 2
        super().__init__(inputs, outputs, (reach + 1, kernel_size), padding=reach, bias=bias)
        visible = torch.ones(reach + 1, kernel_size, dtype=torch.bool)
        visible[-1, reach + (mask == "B") :] = False
        self.register_buffer("mask", visible, persistent=False)

    def masked_weight(self) -> Tensor:
        return torch.where(self.mask, self.weight, 0)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self._conv_forward(x, self.masked_weight(), self.bias)
        return outputs[:, :, : x.shape[2]]


@register("model", "pixelcnn")
class PixelCnn(AutoregressiveImages):
    """Mask A 9 × 9, ReLU, residual blocks of two masked 3 × 3 convolutions, mask B 3 × 3 (report 003).

    Weights N(0, 0.01²), biases 0. Masks of this kind leave a blind spot (van den Oord et al. 2016, arXiv 1606.05328,
    figure 1): n rows up, a pixel sees at most n + 3 columns to the right.
    """

    def __init__(self, shape: Sequence[int], *, channels: Width = 32, blocks: Depth = 9) -> None:
        super().__init__(shape)
        self.first = MaskedConv2d(1, channels, 9, "A", bias=False)
        self.blocks = nn.Sequential(
            *(ResidualBlock(*(MaskedConv2d(channels, channels, 3, "B") for _ in range(2))) for _ in range(blocks))
        )
        self.last = MaskedConv2d(channels, 1, 3, "B", bias=False)
        initialize(self, INIT_STD)

    def network(self, x: Tensor, *labels: Tensor) -> Tensor:
        logits: Tensor = self.last(self.blocks(torch.relu(self.first(x))))
        return logits

    def sampler(self, count: int, *labels: Tensor) -> Sampler:
        return PixelCnnSampler(self, count)


class PixelCnnSampler:
    """PixelCnn one position at a time; every convolution caches the rows of its input within its reach."""

    def __init__(self, model: PixelCnn, count: int) -> None:
        convs = [module for module in model.modules() if isinstance(module, MaskedConv2d)]
        first, *inner, last = (MaskedConvCache(conv, count, model.shape[2]) for conv in convs)
        self.first, self.last, self.blocks = first, last, list(zip(inner[::2], inner[1::2], strict=True))
        self.all = [first, *inner, last]

    def start_row(self) -> None:
        for cache in self.all:
            cache.start_row()

    def logits(self, column: int) -> Tensor:
        x = torch.relu(self.first.output(column))
        for first, second in self.blocks:
            x = x + second(column, torch.relu(first(column, torch.relu(x))))
        return self.last(column, x)[:, 0]

    def set(self, column: int, pixels: Tensor) -> None:
        self.first.beside.put(column, pixels[:, None])


class MaskedConvCache:
    """A MaskedConv2d one position at a time; the contribution of the rows above is computed once per row."""

    def __init__(self, conv: MaskedConv2d, count: int, width: int) -> None:
        weight, visible = conv.masked_weight(), int(conv.mask[-1].sum())
        self.above = RowWindow(weight[:, :, :-1], conv.bias, count, width)
        self.beside = ColumnWindow(weight[:, :, -1, :visible], weight.shape[3] // 2, count, width)

    def start_row(self) -> None:
        self.from_above = by_column(self.above.push(self.beside.row()))

    def output(self, column: int) -> Tensor:
        return self.beside.output(column, self.from_above[column])

    def __call__(self, column: int, x: Tensor) -> Tensor:
        self.beside.put(column, x)
        return self.output(column)
