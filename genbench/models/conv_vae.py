"""Residual encoder and decoder of a convolutional VAE, with one latent per square of 4 × 4 pixels (report 003).

The identity path of a block is free of nonlinearities (He et al. 2016, arXiv 1603.05027, figure 4e), and all weights
start as N(0, 0.01²). A 3 × 3 convolution of C channels, after a ReLU, then multiplies the mean square by 9C/2 · 10⁻⁴;
two of them add 0.3 % to a block's input for C = 128, so activations and gradients keep their size through 51 blocks.
If 0.01 were the variance, each block would multiply the mean square by 34.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genbench.errors import ConfigError
from genbench.models.initialization import initialize

__all__ = ["INIT_STD", "ConvDecoder", "ConvEncoder", "ResidualBlock"]

INIT_STD = 0.01
STRIDE = 4


class ResidualBlock(nn.Module):
    """x + second(ReLU(first(ReLU(x)))), where both layers preserve the shape of x."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + residual


class ConvEncoder(nn.Module):
    """Images [B, C, H, W] → mean and log variance of the posterior, each [B, L], and a context [B, context · L].

    L = H/4 · W/4. A convolution of 7 × 7 and stride 4, ReLU, `blocks` residual blocks of 3 × 3 convolutions, a last
    3 × 3 convolution. Raises ConfigError unless the images' sides are multiples of 4.

    Args:
        shape: one image's [C, H, W].
        channels: of the residual blocks.
        blocks: number of residual blocks.
        context: numbers per latent for a flow posterior (Kingma et al. 2016, arXiv 1606.04934); if 0, forward returns
            None instead.
    """

    def __init__(self, shape: Sequence[int], channels: int, blocks: int, context: int = 0) -> None:
        super().__init__()
        height, width = latent_size(shape)
        self.latent_dim = height * width
        self.first = nn.Conv2d(shape[0], channels, 7, stride=STRIDE, padding=3, bias=False)
        self.blocks = residual_blocks(channels, blocks)
        self.last = nn.Conv2d(channels, 2 + context, 3, padding=1)
        initialize(self, INIT_STD)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        outputs = self.last(self.blocks(torch.relu(self.first(x))))
        context = outputs[:, 2:].flatten(1) if outputs.shape[1] > 2 else None
        return outputs[:, 0].flatten(1), outputs[:, 1].flatten(1), context


class ConvDecoder(nn.Module):
    """Latents [B, L] → inputs of the likelihood (such as logits), [B, C, H, W]; L = H/4 · W/4.

    A linear layer to `channels` × H/4 × W/4, ReLU, `blocks` residual blocks of 3 × 3 convolutions, a transposed
    convolution of 4 × 4 and stride 4, a bias for every pixel. Raises ConfigError unless the images'
    sides are multiples of 4.

    Args:
        shape: one image's [C, H, W].
        channels: of the residual blocks.
        blocks: number of residual blocks.
    """

    def __init__(self, shape: Sequence[int], channels: int, blocks: int) -> None:
        super().__init__()
        height, width = latent_size(shape)
        self.latent_dim = height * width
        self.first = nn.Linear(self.latent_dim, channels * self.latent_dim, bias=False)
        self.unflatten = nn.Unflatten(1, (channels, height, width))
        self.blocks = residual_blocks(channels, blocks)
        self.last = nn.ConvTranspose2d(channels, shape[0], STRIDE, stride=STRIDE, bias=False)
        self.bias = nn.Parameter(torch.zeros(*shape))
        initialize(self, INIT_STD)

    def forward(self, z: Tensor) -> Tensor:
        outputs: Tensor = self.last(self.blocks(self.unflatten(torch.relu(self.first(z)))))
        return outputs + self.bias


def residual_blocks(channels: int, blocks: int) -> nn.Sequential:
    """Residual blocks of two 3 × 3 convolutions each."""
    return nn.Sequential(
        *(ResidualBlock(*(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))) for _ in range(blocks))
    )


def latent_size(shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of the latents of images [C, H, W]; ConfigError unless 4 divides both sides."""
    if len(shape) != 3 or shape[1] % STRIDE or shape[2] % STRIDE:
        size = " × ".join(map(str, shape))
        raise ConfigError(f"a convolutional VAE is for images with sides of multiples of 4, and these are {size}")
    return shape[1] // STRIDE, shape[2] // STRIDE
