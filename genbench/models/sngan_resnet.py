"""Residual generator and critic for images of 32 × 32.

Miyato, Kataoka, Koyama & Yoshida 2018 (arXiv 1802.05957), appendix B.4, table 4; spectral normalization itself is the
regularizer `sn`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from genbench.models.dcgan import check_size
from genbench.models.gan import GanPair
from genbench.registry import Width, register

__all__ = ["SnganResnet"]


class UpBlock(nn.Module):
    """BN – ReLU – upsample – conv – BN – ReLU – conv, plus an upsampled 1 × 1 convolution as skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.skip = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv1(interpolate(torch.relu(self.norm1(x)), scale_factor=2.0))
        residual = self.conv2(torch.relu(self.norm2(residual)))
        return residual + interpolate(self.skip(x), scale_factor=2.0)  # a 1 × 1 convolution commutes with upsampling


class DownBlock(nn.Module):
    """ReLU – conv – ReLU – conv – mean pooling, plus a pooled 1 × 1 convolution as skip if shapes differ.

    The first block of a critic starts without the ReLU, which would clip its input image.
    """

    def __init__(self, inputs: int, outputs: int, first: bool = False, down: bool = True) -> None:
        super().__init__()
        self.first, self.down = first, down
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if down or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(torch.relu(self.conv1(x if self.first else torch.relu(x))))
        if self.down:
            # Pooling and the 1 × 1 convolution commute; pooling first costs a quarter.
            residual, x = avg_pool2d(residual, 2), avg_pool2d(x, 2)
        skip: Tensor = self.skip(x)
        return residual + skip


class ResnetGenerator(nn.Module):
    """[B, L] → [B, C, 32, 32]: a linear layer to w × 4 × 4 and three blocks."""

    def __init__(self, latent_dim: int, width: int, channels: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(latent_dim, width * 4 * 4)
        self.blocks = nn.Sequential(*(UpBlock(width) for _ in range(3)))
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.blocks(self.linear(z).view(-1, self.width, 4, 4))
        return torch.tanh(self.last(torch.relu(self.norm(x))))


class ResnetCritic(nn.Module):
    """[B, C, 32, 32] → [B]: four blocks, two of which halve the size; features summed over positions."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            DownBlock(channels, width, first=True),
            DownBlock(width, width),
            DownBlock(width, width, down=False),
            DownBlock(width, width, down=False),
        )
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(torch.relu(self.blocks(x)).sum(dim=(2, 3)))
        return scores.squeeze(1)


@register("model", "sngan-resnet")
class SnganResnet(GanPair):
    """`width` is the generator's; the critic's is half of it, as in the paper (256 and 128). Raises ConfigError for
    images of another size."""

    def __init__(self, shape: Sequence[int], *, latent_dim: Width = 128, width: Width = 256) -> None:
        check_size(shape, "sngan-resnet")
        critic_width = max(1, width // 2)
        super().__init__(
            ResnetGenerator(latent_dim, width, shape[0]), ResnetCritic(critic_width, shape[0]), latent_dim
        )
        self._initialize()

    def _initialize(self) -> None:
        """Glorot's uniform distribution, √2 times as wide on residual paths (as in the authors' code)."""
        for name, module in self.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                gain = math.sqrt(2) if name.endswith(("conv1", "conv2")) else 1.0
                nn.init.xavier_uniform_(module.weight, gain)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
