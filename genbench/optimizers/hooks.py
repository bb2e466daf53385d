"""Options of every optimizer: learning-rate schedules, gradient clipping, CUDA graphs, resuming on another device."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from genbench.engine.capture import can_capture
from genbench.engine.device import float64_device
from genbench.registry import OneOf, Range

__all__ = ["Annealing", "Decay", "Schedule", "captured", "hooked", "number"]

Decay = Annotated[float, Range(above=0, maximum=1)]
Annealing = Annotated[str, OneOf("cosine", "linear")]

# Keys of a parameter group that depend on the device and the configuration, not on the progress of training.
CONSTRUCTION_KEYS = ("lr", "initial_lr", "fused", "foreach", "capturable")


def captured(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether steps on these parameters may be captured in a graph."""
    # PyTorch warns that such an optimizer is slower outside of graphs, but it runs the same kernels.
    warnings.filterwarnings("ignore", message=".*came with capturable=True")
    return can_capture(parameters[0].device)


def number(value: float, parameters: Sequence[nn.Parameter]) -> Any:
    """A number that an optimizer reads and changes: a tensor on the parameters' device if steps may be captured."""
    return torch.full((), value, device=parameters[0].device) if captured(parameters) else value


@dataclass(frozen=True)
class Schedule:
    """The learning rate after n updates, a product of

    - `lr`, times `decay` for each of the `milestones` that n has reached;
    - min(1, (n + 1) / `warmup`): a linear rise;
    - with `anneal` = N, a fall to 0 at N, as `annealing` says: (1 + cos πn/N) / 2 (Loshchilov & Hutter 2017, arXiv
      1608.03983, eq. 5, without restarts) or 1 − n/N.
    """

    lr: float
    milestones: Sequence[int] = ()
    decay: float = 0.1
    warmup: int = 0
    anneal: int | None = None
    annealing: str = "cosine"

    @property
    def constant(self) -> bool:
        return not (self.milestones or self.warmup or self.anneal)

    def rate(self, updates: Tensor) -> Tensor:
        """For a number of updates, int64 [], on any device → [], in float64 where the device has it."""
        device = updates.device
        dtype = torch.float64 if float64_device(device) == device else torch.float32
        rate = torch.full((), self.lr, dtype=dtype, device=device)
        for milestone in self.milestones:
            rate = torch.where(updates >= milestone, self.decay * rate, rate)
        if self.warmup:
            rate = rate * ((updates + 1).to(dtype) / self.warmup).clamp(max=1)
        if self.anneal:
            share = (updates.to(dtype) / self.anneal).clamp(max=1)
            rate = rate * ((1 + torch.cos(math.pi * share)) / 2 if self.annealing == "cosine" else 1 - share)
        return rate


def hooked(optimizer: torch.optim.Optimizer, schedule: Schedule, max_norm: float | None) -> torch.optim.Optimizer:
    """Add hooks to the optimizer: the learning rate follows the schedule, in updates, and gradients are scaled
    down together if their joint norm exceeds `max_norm` (Pascanu et al. 2013, arXiv 1211.5063).

    The optimizer counts updates in its own state, so checkpoints carry the count. Its state may be loaded on another
    device: moments take the memory layout of their parameters, which fused kernels rely on. Every parameter group
    keeps `lr` in full precision as `initial_lr`.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    counter = parameters[0].device if captured(parameters) else torch.device("cpu")
    for group in optimizer.param_groups:
        group["initial_lr"] = schedule.lr
    if not schedule.constant:
        for group in optimizer.param_groups:
            _set(group, schedule, torch.zeros((), dtype=torch.int64, device=counter))

        def count(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                _set(group, schedule, group["updates"].add_(1))

        optimizer.register_step_post_hook(count)
    if max_norm is not None:
        for group in optimizer.param_groups:
            group["max_norm"] = max_norm

        def clip(*_: Any) -> None:
            torch.nn.utils.clip_grad_norm_(parameters, max_norm)

        optimizer.register_step_pre_hook(clip)

    own = [{key: group[key] for key in CONSTRUCTION_KEYS if key in group} for group in optimizer.param_groups]

    def settle(optimizer: torch.optim.Optimizer) -> None:
        for group, mine in zip(optimizer.param_groups, own, strict=True):
            group |= mine
            if not schedule.constant:
                _set(group, schedule, torch.as_tensor(group["updates"], dtype=torch.int64, device=counter))
        for parameter in parameters:
            for name, value in optimizer.state[parameter].items():
                if name == "step":
                    optimizer.state[parameter][name] = value.to(parameter.device) if captured(parameters) else value
                elif isinstance(value, Tensor) and value.shape == parameter.shape:
                    optimizer.state[parameter][name] = torch.empty_like(parameter).copy_(value)

    optimizer.register_load_state_dict_post_hook(settle)
    return optimizer


def _set(group: dict[str, Any], schedule: Schedule, updates: Tensor) -> None:
    """Set a group's learning rate for its number of updates."""
    group["updates"] = updates
    rate = schedule.rate(updates)
    if isinstance(group["lr"], Tensor):
        group["lr"].copy_(rate)  # where a captured step reads it
    else:
        group["lr"] = rate.item()
