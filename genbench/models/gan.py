"""Generator–critic pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["GanPair"]


class GanPair(nn.Module):
    """A generator of samples from latents z ~ N(0, I), and a critic that scores samples.

    The generator maps [B, L] to samples [B, *shape] in [−1, 1], the critic samples to scores [B].
    """

    def __init__(self, generator: nn.Module, critic: nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.generator, self.critic, self.latent_dim = generator, critic, latent_dim

    def sample_latent(self, count: int) -> Tensor:
        """[count, L], on the generator's device."""
        return torch.randn(count, self.latent_dim, device=next(self.generator.parameters()).device)
