"""Autoregressive models of binary images: PixelCNN and gated PixelCNN.

van den Oord, Kalchbrenner & Kavukcuoglu 2016 (arXiv 1601.06759); van den Oord, Kalchbrenner, Vinyals, Espeholt,
Graves & Kavukcuoglu 2016 (arXiv 1606.05328).

    log p(x) = Σ_i log p(x_i | x_1 … x_{i−1}),   pixels in raster order, x_i ~ Bernoulli(sigmoid(logit_i))

Kernels hold only the rows that may be seen; what such a convolution puts below or right of the image is cut off.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.engine.device import float64_device
from genbench.errors import ConfigError
from genbench.functional import log_likelihood_bernoulli_logits
from genbench.models.conv_vae import ResidualBlock, initialize
from genbench.registry import PositiveInt, register

__all__ = ["AutoregressiveImages", "GatedPixelCnn", "MaskedConv2d", "PixelCnn"]


class Sampler(Protocol):
    """A network's logits of N images, a pixel at a time in raster order, once all earlier pixels are set."""

    def start_row(self) -> None:
        """The row above is complete (or the image begins)."""

    def logits(self, column: int) -> Tensor:
        """[N], of the pixel in this column of the current row."""

    def set(self, column: int, pixels: Tensor) -> None:
        """The pixel in this column is `pixels` [N]."""


class AutoregressiveImages(nn.Module):
    """Distribution of binary images [1, H, W]; `bias` [1, H, W] is added to the logits of the network.

    Raises ConfigError for images of several channels.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        if len(shape) != 3 or shape[0] != 1:
            size = " × ".join(map(str, shape))
            raise ConfigError(f"a PixelCNN is for binary images of one channel, not {size}", "set dataset=binmnist")
        self.shape = tuple(shape)
        self.bias = nn.Parameter(torch.zeros(*shape))

    def network(self, x: Tensor) -> Tensor:
        """[B, 1, H, W] → [B, 1, H, W]: every pixel from those before it."""
        raise NotImplementedError(f"{type(self).__name__} does not define network")

    def sampler(self, count: int) -> Sampler:
        """The network's logits, without `self.bias`, for `count` images that become known pixel by pixel."""
        raise NotImplementedError(f"{type(self).__name__} does not define sampler")

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 1, H, W] → logits of their pixels, [B, 1, H, W], each given the pixels before it."""
        return self.network(x) + self.bias

    def log_prob(self, x: Tensor) -> Tensor:
        """[B, 1, H, W] → [B], exact, in nats."""
        return log_likelihood_bernoulli_logits(self(x), x)

    @torch.no_grad()
    def sample(
        self,
        count: int | None = None,
        *,
        uniforms: Tensor | None = None,
        bias: Tensor | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Images from the model: a pixel is 1 where its uniform number is less than its probability.

        Every layer is computed once per position, from what it kept of earlier positions.

        Args:
            count: N, for random numbers of the global generator; or
            uniforms: [N, 1, H, W], in [0, 1). Raises ValueError unless one of the two is given, and one only.
            bias: [N, 1, H, W], added to the logits: what a PixelVAE's decoder says.
            progress: called with the number of finished rows, 1 … H.

        Returns:
            [N, 1, H, W] of 0 and 1.
        """
        if uniforms is None and count is not None:
            uniforms = torch.rand(count, *self.shape, dtype=self.bias.dtype, device=self.bias.device)
        elif uniforms is None or count is not None:
            raise ValueError("sample takes either a count or uniforms")
        known = (self.bias if bias is None else self.bias + bias).expand_as(uniforms)
        images = torch.zeros_like(known)
        sampler = self.sampler(len(uniforms))
        for row in range(self.shape[1]):
            sampler.start_row()
            for column in range(self.shape[2]):
                at = (..., 0, row, column)
                images[at] = uniforms[at] < torch.sigmoid(sampler.logits(column) + known[at])
                sampler.set(column, images[at])
            if progress is not None:
                progress(row + 1)
        return images

    def receptive_field(self, row: int | None = None, column: int | None = None) -> Tensor:
        """[H, W], boolean: the pixels on which the logit at a pixel (by default the middle one) can depend.

        A property of the architecture, not of the weights: the gradient of the same network with weights that are all
        positive. There nothing cancels and no ReLU is dead, so it is zero exactly where no path leads.
        """
        _, height, width = self.shape
        row, column = height // 2 if row is None else row, width // 2 if column is None else column
        # Means instead of sums: activations stay within (0, 1], where no gate saturates.
        network = copy.deepcopy(self).to(float64_device(self.bias.device)).double()
        for parameter in network.parameters():
            parameter.detach().fill_(1 / parameter[0].numel() if parameter.dim() == 4 else 0)
        with torch.enable_grad():
            x = torch.ones_like(network.bias).unsqueeze(0).requires_grad_()
            logit = network(x)[0, 0, row, column]
            (gradient,) = torch.autograd.grad(logit, x)
        return gradient[0, 0] > 0


# -------------------------------------------------------------------------------------------------------- PixelCNN


class MaskedConv2d(nn.Conv2d):
    """Convolution whose output at a pixel sees the pixels before it in raster order (mask A), or itself as well (B).

    [B, inputs, H, W] → [B, outputs, H, W]. The weight is [outputs, inputs, reach + 1, kernel_size] with
    reach = ⌊kernel_size/2⌋, of which forward masks the pixels of the last row that come too late; the weight itself
    is never changed. Raises ValueError for an even kernel size, which has no centre.
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
    figure 1): n rows up, a pixel sees no further than n + 3 columns to the right.
    """

    def __init__(self, shape: Sequence[int], *, channels: PositiveInt = 32, blocks: PositiveInt = 9) -> None:
        super().__init__(shape)
        self.first = MaskedConv2d(1, channels, 9, "A", bias=False)
        self.blocks = nn.Sequential(
            *(ResidualBlock(*(MaskedConv2d(channels, channels, 3, "B") for _ in range(2))) for _ in range(blocks))
        )
        self.last = MaskedConv2d(channels, 1, 3, "B", bias=False)
        initialize(self)

    def network(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.blocks(torch.relu(self.first(x))))
        return logits

    def sampler(self, count: int) -> Sampler:
        return PixelCnnSampler(self, count)


class PixelCnnSampler:
    """PixelCnn at one position after the other: of every convolution's input, the rows within its reach are kept."""

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
    """A MaskedConv2d a position at a time; what the rows above add is computed once for the whole row."""

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


# -------------------------------------------------------------------------------------------------- gated PixelCNN


class CutConv2d(nn.Conv2d):
    """Convolution whose surplus rows and columns, below and right of the image, are cut off."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :, : x.shape[2], : x.shape[3]]


class GatedBlock(nn.Module):
    """One layer of figure 2 of arXiv 1606.05328: vertical and horizontal features → the same, and a skip.

    The vertical stack sees the rows above the pixel, all of their columns; the horizontal one the pixels to its left,
    and the vertical stack. In the first block, with the image for both inputs, neither sees the pixel itself and
    there is no residual connection. So that no later block need shift it down, the vertical stack leaves out the
    pixel's own row from the start.
    """

    def __init__(self, inputs: int, channels: int, kernel_size: int, first: bool) -> None:
        super().__init__()
        reach = kernel_size // 2
        seen = reach if first else reach + 1
        self.first = first
        self.vertical = CutConv2d(inputs, 2 * channels, (seen, kernel_size), padding=reach)
        self.across = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.horizontal = CutConv2d(inputs, 2 * channels, (1, seen), padding=(0, reach), bias=False)
        self.out = nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        vertical = self.vertical(v)
        residual, skip = self.out(gate(self.horizontal(h) + self.across(vertical))).chunk(2, dim=1)
        return gate(vertical), residual if self.first else h + residual, skip


@register("model", "pixelcnn-gated")
class GatedPixelCnn(AutoregressiveImages):
    """Vertical and horizontal stacks of gated convolutions, without a blind spot; skips of all blocks to the output.

    Kernels 7 × 7 in the first block and 5 × 5 in the others. Weights N(0, g²/fan-in), biases 0; g = 2 in the vertical
    stack and 1 elsewhere: a gate halves small numbers, and the vertical stack has no residual connection past it.
    """

    def __init__(self, shape: Sequence[int], *, channels: PositiveInt = 32, blocks: PositiveInt = 12) -> None:
        super().__init__(shape)
        later = (GatedBlock(channels, channels, 5, first=False) for _ in range(blocks - 1))
        self.blocks = nn.ModuleList([GatedBlock(1, channels, 7, first=True), *later])
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

    def network(self, x: Tensor) -> Tensor:
        v, h, skips = x, x, torch.zeros_like(x)
        for block in self.blocks:
            v, h, skip = block(v, h)
            skips = skips + skip
        logits: Tensor = self.head(skips)
        return logits

    def sampler(self, count: int) -> Sampler:
        return GatedSampler(self, count)


def gate(x: Tensor) -> Tensor:
    """[B, 2C, …] → [B, C, …]: tanh(x₁) ⊙ sigmoid(x₂)."""
    value, opening = x.chunk(2, dim=1)
    return torch.tanh(value) * torch.sigmoid(opening)


class GatedSampler:
    """GatedPixelCnn: the vertical stack a row at a time, the horizontal one position after the other."""

    def __init__(self, model: GatedPixelCnn, count: int) -> None:
        self.head = model.head
        blocks = [module for module in model.blocks if isinstance(module, GatedBlock)]
        self.blocks = [GatedBlockCache(block, count, model.shape[2]) for block in blocks]
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
    """A GatedBlock, without the residual connection."""

    def __init__(self, block: GatedBlock, count: int, width: int) -> None:
        weight = block.horizontal.weight[:, :, 0]
        self.above = RowWindow(block.vertical.weight, block.vertical.bias, count, width)
        self.beside = ColumnWindow(weight, int(block.horizontal.padding[1]), count, width)
        self.across, self.out, self.out_weight = block.across, block.out, block.out.weight[:, :, 0, 0]

    def start_row(self, v: Tensor) -> Tensor:
        """The row of the vertical stack, [N, inputs, 1, W] → [N, C, 1, W]."""
        vertical = self.above.push(v)
        self.from_above = by_column(self.across(vertical))
        return gate(vertical)

    def output(self, column: int) -> tuple[Tensor, Tensor]:
        """Residual and skip, [N, C]."""
        gated = gate(self.beside.output(column, self.from_above[column]))
        residual, skip = F.linear(gated, self.out_weight, self.out.bias).chunk(2, dim=1)
        return residual, skip


# ------------------------------------------------------------------------------------------------------ what is kept


class RowWindow:
    """The latest rows of N images, as many as the kernel has, and the convolution of these rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, count: int, width: int) -> None:
        """weight: [outputs, inputs, rows, columns]"""
        self.weight, self.bias = weight, bias
        self.rows = weight.new_zeros(count, weight.shape[1], weight.shape[2], width)

    def push(self, row: Tensor) -> Tensor:
        """A new row [N, inputs, 1, W], in place of the oldest → [N, outputs, 1, W]."""
        self.rows = torch.cat([self.rows[:, :, 1:], row], dim=2)
        return F.conv2d(self.rows, self.weight, self.bias, padding=(0, self.weight.shape[3] // 2))


class ColumnWindow:
    """The current row of N images, and the convolution of its columns up to a position."""

    def __init__(self, weight: Tensor, reach: int, count: int, width: int) -> None:
        """weight: [outputs, inputs, columns], whose first column lies `reach` left of the position."""
        self.reach, self.columns = reach, weight.shape[2]
        self.matrix = weight.permute(2, 1, 0).flatten(0, 1)
        self.known = weight.new_zeros(count, reach + width, weight.shape[1])

    def put(self, column: int, x: Tensor) -> None:
        """x: [N, inputs]"""
        self.known[:, self.reach + column] = x

    def output(self, column: int, start: Tensor) -> Tensor:
        """start [N, outputs] plus the convolution."""
        return torch.addmm(start, self.known[:, column : column + self.columns].flatten(1), self.matrix)

    def row(self) -> Tensor:
        """[N, inputs, 1, W]"""
        return self.known[:, None, self.reach :].permute(0, 3, 1, 2)


def by_column(row: Tensor) -> Tensor:
    """[N, C, 1, W] → [W, N, C]."""
    return row[:, :, 0].permute(2, 0, 1).contiguous()
