"""Residual generator and critic for images of 32 × 32 or 64 × 64.

Miyato, Kataoka, Koyama & Yoshida 2018 (arXiv 1802.05957), appendix B.4, table 4; for 64 × 64, which the paper leaves
out, the networks of the authors' code (pfnet-research/sngan_projection, `resnet_64.py` and `snresnet_64.py`).
Spectral normalization itself is the regularizer `sn`. Class-conditional: Miyato & Koyama 2018 (arXiv
1802.05637).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from genbench.models.conditioning import (
    ClassConditional,
    ConditionalSequential,
    ProjectionHead,
    batch_norm,
    known_classes,
)
from genbench.models.dcgan import check_size
from genbench.models.gan import GanPair
from genbench.registry import Width, register

__all__ = ["SnganResnet"]


class UpBlock(ClassConditional):
    """BN – ReLU – upsample – conv – BN – ReLU – conv, plus an upsampled 1 × 1 convolution as skip."""

    def __init__(self, inputs: int, outputs: int, classes: int = 0) -> None:
        super().__init__()
        self.norm1, self.norm2 = (batch_norm(nn.BatchNorm2d, width, classes) for width in (inputs, outputs))
        self.conv1, self.conv2 = (nn.Conv2d(width, outputs, 3, padding=1) for width in (inputs, outputs))
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        residual: Tensor = self.conv1(interpolate(torch.relu(self.norm1(x, *labels)), scale_factor=2.0))
        residual = self.conv2(torch.relu(self.norm2(residual, *labels)))
        return residual + interpolate(self.skip(x), scale_factor=2.0)  # a 1 × 1 convolution commutes with upsampling


class DownBlock(nn.Module):
    """ReLU – conv – ReLU – conv – mean pooling, plus a pooled 1 × 1 convolution as skip if shapes differ.

    The first block of a critic starts without the ReLU, which would clip its input image. It has `outputs` channels
    between its convolutions, any other block has `inputs`.
    """

    def __init__(self, inputs: int, outputs: int, first: bool = False, down: bool = True) -> None:
        super().__init__()
        self.first, self.down = first, down
        hidden = outputs if first else inputs
        self.conv1 = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if down or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(torch.relu(self.conv1(x if self.first else torch.relu(x))))
        if self.down:
            # Pooling and the 1 × 1 convolution commute; pooling first costs a quarter.
            residual, x = avg_pool2d(residual, 2), avg_pool2d(x, 2)
        skip: Tensor = self.skip(x)
        return residual + skip


class ResnetGenerator(nn.Module):
    """[B, L] → [B, C, H, W]: a linear layer to widths[0] × 4 × 4, and a block from each width to the next."""

    def __init__(self, latent_dim: int, widths: Sequence[int], channels: int, classes: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(latent_dim, widths[0] * 4 * 4)
        blocks = (UpBlock(inputs, outputs, classes) for inputs, outputs in pairwise(widths))
        self.blocks = ConditionalSequential(*blocks)
        self.norm = batch_norm(nn.BatchNorm2d, widths[-1], classes)
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        x = self.blocks(self.linear(z).unflatten(1, (-1, 4, 4)), *labels)
        return torch.tanh(self.last(torch.relu(self.norm(x, *labels))))


class ResnetCritic(nn.Module):
    """[B, C, H, W] → [B]: a block to each width, the first `halving` of which halve the size; features summed over
    positions."""

    def __init__(self, widths: Sequence[int], halving: int, channels: int, classes: int = 0) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                DownBlock(inputs, outputs, first=number == 0, down=number < halving)
                for number, (inputs, outputs) in enumerate(pairwise([channels, *widths]))
            )
        )
        self.last = ProjectionHead(widths[-1], classes)

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        scores: Tensor = self.last(torch.relu(self.blocks(x)).sum(dim=(2, 3)), *labels)
        return scores


@register("model", "sngan-resnet")
class SnganResnet(GanPair):
    """For 32 × 32, `width` is the generator's, and the critic's is half of it, as in the paper (256 and 128).

    For 64 × 64, the generator's channels fall from 4 `width` to a quarter of `width`, and the critic's rise from that
    to 4 `width`: 1024 and 64, as in the authors' code. With `conditional`, the generator has conditional batch
    normalization, and the critic is a projection critic. Raises ConfigError for images of another size.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        *,
        latent_dim: Width = 128,
        width: Width = 256,
        conditional: bool = False,
    ) -> None:
        check_size(shape, "sngan-resnet")
        classes = known_classes(conditional, classes)
        if shape[1] == 32:
            widths, critic_widths, halving = [width] * 4, [max(1, width // 2)] * 4, 2
        else:
            widths = [max(1, 4 * width // 2**stage) for stage in range(5)]
            critic_widths, halving = widths[::-1], 5
        super().__init__(
            ResnetGenerator(latent_dim, widths, shape[0], classes),
            ResnetCritic(critic_widths, halving, shape[0], classes),
            latent_dim,
            classes,
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
            elif isinstance(module, nn.Embedding):
                nn.init.xavier_uniform_(module.weight)
