"""What every optimizer may do besides its own step: learning rates that fall, gradients that are bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["hooked"]


def hooked(
    optimizer: torch.optim.Optimizer, milestones: Sequence[int], decay: float, max_norm: float | None
) -> torch.optim.Optimizer:
    """The optimizer, with the learning rate multiplied by `decay` after each of these numbers of updates, and with
    gradients scaled down, all of them together, where their norm exceeds `max_norm` (Pascanu et al. 2013, arXiv
    1211.5063).

    The optimizer counts updates itself, in its own state: nobody else has to know, and checkpoints carry the count.
    """
    if milestones:
        for group in optimizer.param_groups:
            group["updates"] = 0

        def count(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                group["updates"] += 1
                group["lr"] *= decay ** milestones.count(group["updates"])

        optimizer.register_step_post_hook(count)
    if max_norm is not None:
        for group in optimizer.param_groups:
            group["max_norm"] = max_norm
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

        def clip(*_: Any) -> None:
            torch.nn.utils.clip_grad_norm_(parameters, max_norm)

        optimizer.register_step_pre_hook(clip)
    return optimizer
