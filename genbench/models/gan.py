"""What all generator–critic pairs have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["GanPair", "initialize"]


class GanPair(nn.Module):
    """A generator of samples from latents z ~ N(0, I), and a critic that scores samples.

    The generator maps [B, L] to samples [B, *shape] in [−1, 1], the critic samples to scores [B].
    """

    def __init__(self, generator: nn.Module, critic: nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.generator, self.critic, self.latent_dim = generator, critic, latent_dim

    def sample_latent(self, count: int) -> Tensor:
        """[count, L], drawn where the generator's parameters lie."""
        return torch.randn(count, self.latent_dim, device=next(self.generator.parameters()).device)


def initialize(network: nn.Module, std: float) -> None:
    """Weights N(0, std²), biases 0; batch normalization's gains N(1, std²) (DCGAN, Radford et al. 2016)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, 0.0, std)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, std)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
