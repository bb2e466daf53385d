"""Multi-layer perceptron encoder and decoder of a VAE (reports 000–002, 004)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from genbench.registry import OneOf, PositiveInt, register

__all__ = ["MlpVae"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU}


@register("model", "mlp-vae")
class MlpVae(nn.Module):
    """q(z|x) = N(μ(x), diag σ²(x)) and the logits of p(x|z), both by an MLP of `depth` hidden layers of `width`.

    `shape` is one image's [C, H, W]. `logit_offset` is added to the decoder's output, so that an untrained
    decoder already says that most pixels are black.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        latent_dim: PositiveInt = 100,
        width: PositiveInt = 300,
        depth: PositiveInt = 2,
        activation: Annotated[str, OneOf(*ACTIVATIONS)] = "elu",
        logit_offset: float = 0.0,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.shape = tuple(shape)
        pixels, hidden = math.prod(shape), [width] * depth
        self.encoder = _mlp([pixels, *hidden, 2 * latent_dim], ACTIVATIONS[activation])
        self.decoder = _mlp([latent_dim, *hidden, pixels], ACTIVATIONS[activation])
        last = self.decoder[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():  # as an initial bias it costs nothing per step
            last.bias.add_(logit_offset)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] → mean and log variance of the posterior, each [B, L]."""
        mu, logvar = self.encoder(x.flatten(1)).chunk(2, dim=-1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Latents [B, L] → Bernoulli logits [B, C, H, W]."""
        return self.decoder(z).view(-1, *self.shape)


def _mlp(sizes: list[int], activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])
