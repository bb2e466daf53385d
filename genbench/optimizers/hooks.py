"""Options of every optimizer: learning-rate decay, gradient clipping, CUDA graphs, and resuming on another device."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from genbench.engine.capture import can_capture
from genbench.registry import Range

__all__ = ["Decay", "captured", "hooked", "number"]

Decay = Annotated[float, Range(above=0, maximum=1)]

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


def hooked(
    optimizer: torch.optim.Optimizer, lr: float, milestones: Sequence[int], decay: float, max_norm: float | None
) -> torch.optim.Optimizer:
    """Add hooks to the optimizer: `lr` is multiplied by `decay` at each milestone, in updates, and gradients are
    scaled down together if their joint norm exceeds `max_norm` (Pascanu et al. 2013, arXiv 1211.5063).

    The optimizer counts updates in its own state, so checkpoints carry the count. Its state may be loaded on another
    device: moments take the memory layout of their parameters, which fused kernels rely on. Every parameter group
    keeps `lr` in full precision as `initial_lr`.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for group in optimizer.param_groups:
        group["initial_lr"] = lr
    if milestones:
        for group in optimizer.param_groups:
            group["updates"] = number(0, parameters)

        def count(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                group["updates"] += 1
                _fall(group, milestones, decay)

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
            if milestones:
                group["updates"] = number(int(group["updates"]), parameters)
                _fall(group, milestones, decay)
        for parameter in parameters:
            for name, value in optimizer.state[parameter].items():
                if name == "step":
                    optimizer.state[parameter][name] = value.to(parameter.device) if captured(parameters) else value
                elif isinstance(value, Tensor) and value.shape == parameter.shape:
                    optimizer.state[parameter][name] = torch.empty_like(parameter).copy_(value)

    optimizer.register_load_state_dict_post_hook(settle)
    return optimizer


def _fall(group: dict[str, Any], milestones: Sequence[int], decay: float) -> None:
    """Set a group's learning rate for its number of updates."""
    rate = group["initial_lr"] * decay ** sum(group["updates"] >= milestone for milestone in milestones)
    if isinstance(group["lr"], Tensor):
        group["lr"].copy_(rate)  # where a captured step reads it
    else:
        group["lr"] = rate
