"""What tasks share that show samples of images at several moments of training."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, optim

from genbench.engine.task import Stage, Task

__all__ = ["SampledTask"]


class SampledTask(Task):
    """A network, its optimizer, and the samples that were drawn at each stage: what a checkpoint holds."""

    model: Any
    optimizer: optim.Optimizer
    _samples: dict[str, Tensor]
    """Stage → [N, C, H, W] in [0, 1], a square number of images, on the CPU."""

    def images(self, stage: Stage) -> dict[str, Tensor]:
        from torchvision.utils import make_grid  # seconds to import: only where images are drawn

        grid = self._samples[stage]
        return {"generated": make_grid(grid, nrow=math.isqrt(len(grid)), padding=1, pad_value=0.5)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "samples": dict(self._samples),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._samples = dict(state["samples"])
