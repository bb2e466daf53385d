"""The signature that every critic regularizer has, and the gradient they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Critic", "Regularizer", "gradient_norms", "gradients"]

Critic = Callable[[Tensor], Tensor]


class Regularizer(Protocol):
    """A penalty on the critic. Critic loss = −metric + coefficient · penalty."""

    coefficient: float

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """A scalar, differentiable with respect to the critic's parameters.

        `real` and `fake` are samples of the same shape [B], [B, D], [B, C, H, W] …
        """


def gradients(critic: Critic, samples: Tensor) -> Tensor:
    """∇ₓC(x) per sample, flattened to [B, D], differentiable with respect to the critic's parameters."""
    points = samples.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return gradient.reshape(len(gradient), -1)


def gradient_norms(critic: Critic, samples: Tensor) -> Tensor:
    """‖∇ₓC(x)‖₂ over all non-batch dimensions, [B]. Its subgradient where the norm is 0 is 0, never NaN."""
    return torch.linalg.vector_norm(gradients(critic, samples), dim=1)
