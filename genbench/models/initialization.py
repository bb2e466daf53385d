"""Initial weights of convolutional networks."""

from __future__ import annotations

from torch import nn

from genbench.models.conditioning import ConditionalBatchNorm

__all__ = ["initialize"]


def initialize(network: nn.Module, std: float) -> None:
    """Weights N(0, std²), biases 0; batch normalization's gains N(1, std²) (DCGAN, Radford et al. 2016)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, 0.0, std)
        elif isinstance(module, ConditionalBatchNorm) or (isinstance(module, nn.BatchNorm2d) and module.affine):
            nn.init.normal_(module.weight, 1.0, std)
        else:
            continue
        if not isinstance(module, nn.Embedding) and module.bias is not None:
            nn.init.zeros_(module.bias)
