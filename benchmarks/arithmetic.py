"""What a device can compute, and what a training step asks of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from benchmarks.common import Loop
from genbench.engine import device as devices

__all__ = ["Peak", "count_flops"]

SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices in the product that shows the device's peak
SLOW_SIDE = 512  # in bfloat16 on a CPU, which may have to emulate it


@dataclass(frozen=True)
class Peak:
    """Products of two large matrices, in one arithmetic: as fast as the device is in practice."""

    device: torch.device
    precision: str

    @property
    def side(self) -> int:
        return SLOW_SIDE if self.device.type == "cpu" and self.precision == "bf16" else SIDE[self.device.type]

    @property
    def flops(self) -> int:
        return 2 * self.side**3

    def products(self) -> Loop:
        kind = torch.bfloat16 if self.precision == "bf16" else torch.float32
        left, right = (torch.randn(self.side, self.side, device=self.device).to(kind) for _ in range(2))
        result = torch.empty_like(left)
        while True:
            with devices.tf32(self.precision == "tf32"):
                torch.mm(left, right, out=result)
            yield


class _OneModule(ModuleTracker):
    """Counts everything as one: the hooks by which modules are told apart break torch.autograd.grad."""

    def __enter__(self) -> _OneModule:
        return self

    def __exit__(self, *args: object) -> None:
        pass


def count_flops(step: Callable[[], object]) -> int:
    """Of the convolutions and matrix products that `step` calls; a multiplication and an addition are two."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _OneModule()
    with counter:
        step()
    return counter.get_total_flops()
