"""The interface of critic regularizers, and the critic's gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from genbench.registry import register

__all__ = ["Critic", "NoRegularizer", "Regularizer", "gradient_norms", "gradients", "interpolate"]

Critic = Callable[[Tensor], Tensor]


class Regularizer:
    """A penalty on the critic, or a constraint on its weights; the base class is neither.

    The critic minimizes its loss's `critic_loss` + coefficient · penalty. With `every` = k > 1 only each k-th critic
    update computes the penalty, with k times the coefficient (lazy regularization, Karras et al. 2020,
    arXiv 1912.04958, app. B).
    """

    coefficient: float = 0.0
    every: int = 1
    at_real: ClassVar[bool] = False
    """The penalty uses ∇C at the real samples themselves, so one pass of the critic serves loss and penalty."""
    at_fake: ClassVar[bool] = False
    """The same for the fake samples."""

    @property
    def has_penalty(self) -> bool:
        """Whether it adds to the critic's loss."""
        return type(self).penalty is not Regularizer.penalty

    def prepare(self, critic: nn.Module) -> None:
        """Constrain the critic's weights, before its optimizer is built."""

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """A scalar, differentiable with respect to the critic's parameters.

        `real` and `fake` are samples of the same shape [B], [B, D], [B, C, H, W] …
        """
        return torch.zeros((), dtype=real.dtype, device=real.device)


@register("regularizer", "none")
@dataclass(kw_only=True)
class NoRegularizer(Regularizer):
    """The unregularized game."""


def gradients(critic: Critic, samples: Tensor) -> Tensor:
    """∇ₓC(x) per sample, flattened to [B, D], differentiable with respect to the critic's parameters."""
    points = samples if samples.requires_grad else samples.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return gradient.reshape(len(gradient), -1)


def gradient_norms(critic: Critic, samples: Tensor) -> Tensor:
    """‖∇ₓC(x)‖₂ over all non-batch dimensions, [B]; where it is 0, so is its subgradient."""
    norms: Tensor = torch.linalg.vector_norm(gradients(critic, samples), dim=1)
    return norms


def interpolate(real: Tensor, fake: Tensor) -> Tensor:
    """A uniformly random point on the line between each pair of samples."""
    epsilon = torch.rand(len(real), *[1] * (real.dim() - 1), dtype=real.dtype, device=real.device)
    return (epsilon * real + (1 - epsilon) * fake).detach()
