"""RealNVP on images: affine couplings between dequantized pixels and a standard normal.

Dinh et al. 2017 (arXiv 1605.08803); dequantization of Ho et al. 2019 (arXiv 1902.00275).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from genbench.bijections.base import Bijection, Compose
from genbench.bijections.coupling import AffineCoupling, channel_mask, checkerboard_mask
from genbench.bijections.dequantization import Dequantization, UniformDequantization, VariationalDequantization
from genbench.bijections.flow import Flow
from genbench.bijections.shape import Logit, Squeeze
from genbench.bijections.split import Split
from genbench.errors import ConfigError
from genbench.functional import elu
from genbench.registry import Depth, OneOf, Range, Width, register

__all__ = ["GatedResNet", "PixelFlow", "PixelMlp", "RealNvp", "RealNvpConv", "RealNvpMultiscale"]

LEVELS = 256
NOISE_COUPLINGS = 4

Alpha = Annotated[float, Range(minimum=0, below=0.5)]


class PixelFlow(nn.Module):
    """A flow on images of 256 levels, [B, C, H, W] of whole numbers 0 … 255 in floating point.

    Args:
        shape: of an image, [C, H, W].
        dequantization: from pixels to [0, 1].
        alpha: of the logit from [0, 1] to the real line.
        bijection: from the logits to the base.
        base_shape: of a base point.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dequantization: Dequantization,
        alpha: float,
        bijection: Bijection,
        base_shape: Sequence[int],
    ) -> None:
        super().__init__()
        self.dims = math.prod(shape)
        self.dequantization = dequantization
        self.alpha = alpha
        self.flow = Flow(Compose([Logit(alpha), bijection]), base_shape, "data to base")

    @property
    def protocol(self) -> dict[str, str]:
        """The settings besides the parameters that the likelihood depends on."""
        kind = "variational" if isinstance(self.dequantization, VariationalDequantization) else "uniform"
        return {"dequantization": kind, "alpha": f"{self.alpha:g}"}

    def log_prob(self, pixels: Tensor) -> Tensor:
        """log p(v) w of one draw of the noise for pixels [B, C, H, W], in nats, [B].

        In expectation a lower bound of log P(x); the logarithm of its mean over draws of p(v) w comes closer (Burda
        et al. 2016, theorem 1).
        """
        v, log_weight = self.dequantization.dequantize(pixels)
        log_density: Tensor = self.flow.log_prob(v)
        return log_density + log_weight

    def sample(self, n: int, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """n images, [n, C, H, W], without gradients; the base's standard deviation is `temperature`."""
        return self.dequantization.quantize(self.flow.sample(n, temperature=temperature, generator=generator))

    def to_base(self, pixels: Tensor) -> Tensor:
        """The base point of the middle of a pixel's cell (u = ½), [B, *base_shape]: deterministic."""
        z, _ = self.flow.to_base(self.dequantization.centre(pixels))
        return z

    def to_data(self, z: Tensor) -> Tensor:
        """z [B, *base_shape] → pixels [B, C, H, W]"""
        v, _ = self.flow.to_data(z)
        return self.dequantization.quantize(v)


@register("model", "realnvp")
class RealNvp(PixelFlow):
    """Couplings with alternating checkerboard masks and MLPs of two hidden layers (report 002); uniform
    dequantization. `alpha` is the logit's. Raises ConfigError unless `shape` is [C, H, W]."""

    def __init__(
        self,
        shape: Sequence[int],
        *,
        couplings: Depth = 8,
        width: Width = 1024,
        alpha: Alpha = 1e-5,
    ) -> None:
        check_images(shape, "realnvp")
        masks = alternating(checkerboard_mask, shape, couplings)
        flow = Compose(AffineCoupling(mask, PixelMlp(mask, width)) for mask in masks)
        super().__init__(shape, UniformDequantization(LEVELS), alpha, flow, shape)


@register("model", "realnvp-conv")
class RealNvpConv(PixelFlow):
    """Couplings with alternating checkerboard masks and gated residual networks.

    `width` and `blocks` belong to the networks, `alpha` to the logit. Variational dequantization has four
    couplings of half the width. Raises ConfigError unless `shape` is [C, H, W].
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        couplings: Depth = 8,
        width: Width = 32,
        blocks: Depth = 3,
        dequantization: Annotated[str, OneOf("uniform", "variational")] = "uniform",
        alpha: Alpha = 1e-5,
    ) -> None:
        check_images(shape, "realnvp-conv")
        noise = UniformDequantization(LEVELS) if dequantization == "uniform" else learned_noise(shape, width, blocks)
        flow = convolutional(alternating(checkerboard_mask, shape, couplings), width, blocks)
        super().__init__(shape, noise, alpha, flow, shape)


@register("model", "realnvp-multiscale")
class RealNvpMultiscale(PixelFlow):
    """Variational dequantization; two checkerboard couplings; squeezed, two channel couplings; half of the channels
    factored out; the rest squeezed again, and four channel couplings. Base points are flat, [B, C·H·W].

    At `width` 32 the networks of the three scales are 32, 48 and 64 wide, and those of the dequantization 16; other
    widths keep these proportions. `blocks` is the depth of all, `alpha` the logit's. Raises ConfigError unless
    `shape` is [C, H, W] with sides divisible by 4.
    """

    def __init__(self, shape: Sequence[int], *, width: Width = 32, blocks: Depth = 3, alpha: Alpha = 1e-5) -> None:
        check_images(shape, "realnvp-multiscale")
        channels, height, length = shape
        if height % 4 or length % 4:
            raise ConfigError(
                f"model=realnvp-multiscale halves the sides twice, and these images are {height} × {length}",
                "set model=realnvp-conv",
            )
        middle = (4 * channels, height // 2, length // 2)
        inner = (8 * channels, height // 4, length // 4)
        smallest = [Squeeze(), convolutional(alternating(channel_mask, inner, 4), 2 * width, blocks)]
        flow = Compose(
            [
                convolutional(alternating(checkerboard_mask, shape, 2), width, blocks),
                Squeeze(),
                convolutional(alternating(channel_mask, middle, 2), 3 * width // 2, blocks),
                Split(middle, Compose(smallest)),
            ]
        )
        super().__init__(shape, learned_noise(shape, width, blocks), alpha, flow, [math.prod(shape)])


def check_images(shape: Sequence[int], model: str) -> None:
    """Raise ConfigError unless `shape` is [C, H, W]."""
    if len(shape) != 3 or min(shape) < 1:
        raise ConfigError(f"model={model} is for images [C, H, W], and these data are {list(shape)}")


def alternating(mask: Callable[..., Tensor], shape: Sequence[int], count: int) -> list[Tensor]:
    """Masks of which each is the complement of the one before it."""
    return [mask(shape, flip=bool(i % 2)) for i in range(count)]


def convolutional(masks: Sequence[Tensor], width: int, blocks: int, context: int = 0) -> Compose:
    """Couplings with one gated residual network each; `context` is how many channels the context has."""
    return Compose(
        AffineCoupling(mask, GatedResNet(len(mask), width, blocks, context), conditional=context > 0)
        for mask in masks
    )


def learned_noise(shape: Sequence[int], width: int, blocks: int) -> VariationalDequantization:
    masks = alternating(checkerboard_mask, shape, NOISE_COUPLINGS)
    return VariationalDequantization(LEVELS, convolutional(masks, max(1, width // 2), blocks, context=shape[0]))


class PixelMlp(nn.Module):
    """A coupling's conditioner, Linear – ReLU – Linear – ReLU – Linear, from the pixels where the mask is 1 to raw
    log-scale and shift where it is 0. It equals a network on all pixels, without the weights that would multiply
    zeros or whose outputs would be ignored.

    Args:
        mask: the coupling's, [C, H, W].
        width: of both hidden layers.
    """

    shown: Tensor
    hidden: Tensor

    def __init__(self, mask: Tensor, width: int) -> None:
        super().__init__()
        flat = mask.bool().flatten()
        shown, hidden = flat.nonzero().flatten(), (~flat).nonzero().flatten()
        self.register_buffer("shown", shown, persistent=False)
        self.register_buffer("hidden", torch.cat([hidden, hidden + len(flat)]), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(len(shown), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            zeroed(nn.Linear(width, 2 * len(hidden))),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, 2C, H, W], 0 where the mask is 1."""
        out: Tensor = self.layers(x.flatten(1).index_select(1, self.shown))
        everywhere = out.new_zeros(len(x), 2 * math.prod(x.shape[1:])).index_copy(1, self.hidden, out)
        return everywhere.view(len(x), 2 * x.shape[1], *x.shape[2:])


class GatedResNet(nn.Sequential):
    """A coupling's convolutional conditioner: gated residual blocks, each with layer normalization, between two
    3 × 3 convolutions. Ho et al. 2019, section 3.3, without the attention.

    Args:
        channels: C, of x [B, C, H, W].
        width: channels of the hidden layers.
        blocks: number of residual blocks.
        context: channels of the context, which is concatenated to x; 0 for none.
    """

    def __init__(self, channels: int, width: int, blocks: int, context: int = 0) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels + context, width, 3, padding=1)]
        for _ in range(blocks):
            layers += [GatedResidualBlock(width), ChannelNorm(width)]
        super().__init__(*layers, ConcatElu(), zeroed(nn.Conv2d(2 * width, 2 * channels, 3, padding=1)))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """[B, C, H, W] → [B, 2C, H, W]"""
        x = x if context is None else torch.cat([x, context], dim=1)
        for layer in self:
            x = layer(x)
        return x


class GatedResidualBlock(nn.Module):
    """x + value · sigmoid(gate), both of one convolution 3 × 3 and one 1 × 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConcatElu(),
            nn.Conv2d(2 * width, width, 3, padding=1),
            ConcatElu(),
            nn.Conv2d(2 * width, 2 * width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.layers(x).chunk(2, dim=1)
        residual: Tensor = value * torch.sigmoid(gate)
        return x + residual


class ConcatElu(nn.Module):
    """[B, C, …] → [B, 2C, …]: elu(x) and elu(−x), so that the gradient does not vanish on either side of 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([elu(x), elu(-x)], dim=1)


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels, at each position."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """Set weights and biases to 0, so that a coupling starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
