"""What tasks share that show samples of images at several moments of training."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

from torch import Tensor, optim

from genbench.engine.task import Stage, Task

__all__ = ["SampledTask", "StagedSamples"]


class StagedSamples(Task):
    """Samples drawn at each stage of training from the same random numbers, and remembered."""

    cover = "samples/generated-end.png"

    _samples: dict[str, Tensor]
    """Stage → what `_draw_samples` returned then."""

    @abstractmethod
    def _draw_samples(self) -> Tensor:
        """[N, C, H, W] in [0, 1] on the CPU, of the networks as they are, from the same random numbers always."""

    def samples(self, stage: Stage) -> Tensor:
        """[N, C, H, W] in [0, 1]: drawn when they are first asked for, which is at this stage of the training."""
        if stage not in self._samples:
            self._samples[stage] = self._draw_samples()
        return self._samples[stage]

    def start_again(self) -> None:
        self._samples = {stage: images for stage, images in self._samples.items() if stage == "start"}

    def images(self, stage: Stage) -> dict[str, Tensor]:
        from torchvision.utils import make_grid  # seconds to import: only where images are drawn

        grid = self.samples(stage)
        return {"generated": make_grid(grid, nrow=math.ceil(math.sqrt(len(grid))), padding=1, pad_value=0.5)}


class SampledTask(StagedSamples):
    """One network, its optimizer and the samples: what a checkpoint holds."""

    model: Any
    optimizer: optim.Optimizer

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
