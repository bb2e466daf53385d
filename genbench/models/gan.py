"""Generator–critic pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["GanPair"]


class GanPair(nn.Module):
    """A generator of samples from latents z ~ N(0, I), and a critic that scores samples.

    The generator maps [B, L] to samples [B, *shape] in [−1, 1], the critic samples to scores [B]. If there are
    `classes`, both take labels [B] as a second argument.
    """

    def __init__(self, generator: nn.Module, critic: nn.Module, latent_dim: int, classes: int = 0) -> None:
        super().__init__()
        self.generator, self.critic, self.latent_dim, self.classes = generator, critic, latent_dim, classes

    def sample_latent(self, count: int) -> Tensor:
        """[count, L], on the generator's device."""
        return torch.randn(count, self.latent_dim, device=next(self.generator.parameters()).device)
