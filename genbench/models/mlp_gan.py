"""The multi-layer perceptron GAN of reports 002 and 004, and the small critic of report 001.

Generator L–128–256–512–1024–pixels, LeakyReLU 0.2, layers from 256 on normalized, tanh; critic
pixels–512–256–1, LeakyReLU 0.2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from genbench.errors import ConfigError
from genbench.models.conditioning import ConditionalSequential, ProjectionHead, batch_norm, known_classes
from genbench.models.gan import GanPair
from genbench.registry import Depth, OneOf, Range, Width, register

__all__ = ["MlpGan", "MlpGenerator", "VirtualBatchNorm", "mlp_critic"]

HIDDEN = (128, 256, 512, 1024)
REFERENCE_ROWS = 64
Dropout = Annotated[float, Range(minimum=0, below=1)]


class VirtualBatchNorm(nn.Module):
    """Normalizes each row by the statistics of a fixed reference batch together with that row.

    Salimans et al. 2016 (arXiv 1606.03498), section 3.5: unlike in batch normalization, the rows of a batch do not
    depend on one another. The input's first `reference_rows` rows are the activations of the reference batch; they
    are normalized by their own statistics.
    """

    def __init__(self, features: int, reference_rows: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.reference_rows, self.eps = reference_rows, eps

    def forward(self, x: Tensor) -> Tensor:
        """[reference_rows + B, F] → the same shape."""
        reference, rows = x.to(self.weight.dtype).tensor_split([self.reference_rows])  # statistics never in bf16
        share = 1 / (self.reference_rows + 1)
        mean, square = reference.mean(0), reference.square().mean(0)
        row_mean = (1 - share) * mean + share * rows
        row_variance = ((1 - share) * square + share * rows.square() - row_mean.square()).clamp_min(0)
        variance = (square - mean.square()).clamp_min(0)
        normalized = torch.cat(
            [
                (reference - mean) * torch.rsqrt(variance + self.eps),
                (rows - row_mean) * torch.rsqrt(row_variance + self.eps),
            ]
        )
        return normalized * self.weight + self.bias


class MlpGenerator(nn.Module):
    """[B, L] → [B, *shape] in [−1, 1]."""

    reference: Tensor

    def __init__(self, latent_dim: int, shape: Sequence[int], virtual: bool, classes: int = 0) -> None:
        super().__init__()
        self.shape, self.virtual = tuple(shape), virtual
        layers: list[nn.Module] = [nn.Linear(latent_dim, HIDDEN[0]), nn.LeakyReLU(0.2)]
        for inputs, outputs in itertools.pairwise(HIDDEN):
            own = VirtualBatchNorm(outputs, REFERENCE_ROWS) if virtual else None
            norm = own or batch_norm(nn.BatchNorm1d, outputs, classes)
            layers += [nn.Linear(inputs, outputs), norm, nn.LeakyReLU(0.2)]
        self.layers = ConditionalSequential(*layers, nn.Linear(HIDDEN[-1], math.prod(shape)), nn.Tanh())
        if virtual:
            self.register_buffer("reference", torch.randn(REFERENCE_ROWS, latent_dim))

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        z = torch.cat([self.reference, z]) if self.virtual else z
        samples: Tensor = self.layers(z, *labels)
        return (samples[REFERENCE_ROWS:] if self.virtual else samples).view(-1, *self.shape)


class _Scores(ConditionalSequential):
    """Samples of any shape → one score each, [B]."""

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        return super().forward(x.flatten(1), *labels)


def mlp_critic(inputs: int, hidden: Sequence[int], dropout: float = 0.0, classes: int = 0) -> nn.Module:
    """Samples of `inputs` numbers → scores [B], LeakyReLU 0.2 between the `hidden` layers; if there are `classes`, a
    projection critic."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.2)]
        layers += [nn.Dropout(dropout)] if dropout else []
        inputs = width
    return _Scores(*layers, ProjectionHead(inputs, classes))


@register("model", "mlp-gan")
class MlpGan(GanPair):
    """Generator and critic for images, multi-layer perceptrons both (reports 002 and 004).

    `normalization` of the generator: batch, or virtual (report 004). `dropout` (report 004) in the critic.

    With `conditional`, the generator has conditional batch normalization, and the critic is a projection critic.
    Raises ConfigError for a conditional generator with virtual normalization.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        *,
        latent_dim: Width = 100,
        normalization: Annotated[str, OneOf("batch", "virtual")] = "batch",
        dropout: Dropout = 0.0,
        conditional: bool = False,
    ) -> None:
        classes, virtual = known_classes(conditional, classes), normalization == "virtual"
        if classes and virtual:
            raise ConfigError(
                "a class-conditional generator is conditional by its batch normalization",
                "set model.normalization=batch or model.conditional=false",
            )
        generator = MlpGenerator(latent_dim, shape, virtual, classes)
        critic = mlp_critic(math.prod(shape), (512, 256), dropout, classes)
        super().__init__(generator, critic, latent_dim, classes)


@register("model", "mlp-critic")
class MlpCritic(nn.Module):
    """A critic alone, for divergences between two given distributions (report 001, problem 2)."""

    def __init__(self, shape: Sequence[int], *, width: Width = 256, depth: Depth = 3) -> None:
        super().__init__()
        self.critic = mlp_critic(math.prod(shape), [width] * depth)
