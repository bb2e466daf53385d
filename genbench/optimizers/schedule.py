"""Learning rates that fall in steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["decay_at"]


def decay_at(optimizer: torch.optim.Optimizer, milestones: Sequence[int], factor: float) -> torch.optim.Optimizer:
    """Multiply the learning rate by `factor` after each of these numbers of updates.

    The optimizer itself counts them, in its own state: nobody else has to know, and a checkpoint carries the count.
    """
    if milestones:
        for group in optimizer.param_groups:
            group["updates"] = 0

        def count(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                group["updates"] += 1
                group["lr"] *= factor ** milestones.count(group["updates"])

        optimizer.register_step_post_hook(count)
    return optimizer
