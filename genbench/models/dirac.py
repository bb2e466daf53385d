"""The Dirac-GAN's players (Mescheder, Geiger & Nowozin 2018, arXiv 1801.04406, definition 2.1; report 000, Q2.6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genbench.errors import ConfigError
from genbench.registry import PositiveFloat, register

__all__ = ["DiracCritic", "DiracGan", "DiracGenerator"]


class DiracGenerator(nn.Module):
    """Q = δ_θ: every latent becomes the point θ."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta]))

    def forward(self, latent: Tensor) -> Tensor:
        return self.theta.expand(len(latent), 1)


class DiracCritic(nn.Module):
    """C(x) = ψ0 · x + ψ1."""

    def __init__(self, psi: Sequence[float]) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor(psi))

    def forward(self, x: Tensor) -> Tensor:
        return self.psi[0] * x.squeeze(-1) + self.psi[1]


@register("model", "dirac-gan")
class DiracGan(nn.Module):
    """Both players, every parameter drawn from N(0, init_std²). Raises ConfigError unless a sample is one number."""

    def __init__(self, shape: Sequence[int], *, init_std: PositiveFloat = 0.7) -> None:
        super().__init__()
        if tuple(shape) != (1,):
            raise ConfigError(
                f"model=dirac-gan is for points on a line, and one sample here is {' × '.join(map(str, shape))}",
                "set dataset=dirac, or choose another model",
            )
        theta, psi0, psi1 = (init_std * torch.randn(3, device="cpu")).tolist()
        self.generator = DiracGenerator(theta)
        self.critic = DiracCritic([psi0, psi1])

    def sample_latent(self, count: int) -> Tensor:
        """The generator needs no noise: [count, 0], on its device."""
        return self.generator.theta.new_empty(count, 0)
