"""What class-conditional networks share: batch normalization with a gain and bias for each class, projection critics.

Conditional normalization: Dumoulin, Shlens & Kudlur 2017 (arXiv 1610.07629), eq. 5, and de Vries et al. 2017 (arXiv
1707.00683). Projection: Miyato & Koyama 2018 (arXiv 1802.05637), eq. 3 and figure 1 (d).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.errors import ConfigError

__all__ = [
    "ClassConditional",
    "ConditionalBatchNorm",
    "ConditionalSequential",
    "ProjectionHead",
    "batch_norm",
    "known_classes",
    "project",
]


def known_classes(conditional: bool, classes: int) -> int:
    """How many classes a network tells apart: those of the data set if it is conditional, else 0.

    Raises ConfigError for a conditional network and data without labels.
    """
    if conditional and not classes:
        raise ConfigError(
            "a class-conditional model needs labels, and this data set has none",
            "set model.conditional=false, or choose labelled data, such as dataset=mnist5k, mnist, cifar10 or svhn",
        )
    return classes if conditional else 0


class ClassConditional(nn.Module):
    """Marks a layer that takes labels [B] besides its input, unless it was built for no classes."""


class ConditionalSequential(nn.Sequential):
    """Layers one after another, of which the class-conditional ones are given the labels."""

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, *labels) if isinstance(layer, ClassConditional) else layer(x)
        return x


class ConditionalBatchNorm(ClassConditional):
    """γ_y · (x − μ)/σ + β_y: statistics of all classes together, gain and bias of each; at first γ = 1 and β = 0.

    `norm` normalizes [B, C, …], without gain and bias of its own.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, classes: int) -> None:
        super().__init__()
        self.norm = norm
        self.weight = nn.Parameter(torch.ones(classes, norm.num_features))
        self.bias = nn.Parameter(torch.zeros(classes, norm.num_features))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        size = (*x.shape[:2], *[1] * (x.dim() - 2))
        gain, bias = (F.embedding(labels, table).view(size) for table in (self.weight, self.bias))
        normalized: Tensor = self.norm(x)
        return (gain * normalized + bias).to(x.dtype)  # bfloat16 stays bfloat16, as in batch normalization


def batch_norm(kind: type[nn.BatchNorm1d] | type[nn.BatchNorm2d], features: int, classes: int) -> nn.Module:
    """Batch normalization, conditional if there are classes."""
    return ConditionalBatchNorm(kind(features, affine=False), classes) if classes else kind(features)


def project(scores: Tensor, features: Tensor, embedding: nn.Embedding | None, *labels: Tensor) -> Tensor:
    """ψ(φ(x)) + e_y · φ(x), [B], of scores ψ(φ(x)) [B] and features φ(x) [B, D]; without an embedding, ψ(φ(x))."""
    return scores if embedding is None else scores + (embedding(*labels) * features).sum(1)


class ProjectionHead(ClassConditional, nn.Linear):
    """The last layer of a critic: features [B, D] → scores [B]. The embedding starts as the linear layer does."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, 1)
        self.embedding = nn.Embedding(classes, features) if classes else None
        if self.embedding is not None:
            nn.init.uniform_(self.embedding.weight, -1 / math.sqrt(features), 1 / math.sqrt(features))

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        return project(super().forward(x).squeeze(1), x, self.embedding, *labels)
