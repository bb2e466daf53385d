"""How tasks of flows draw samples: from points of the base."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from genbench.engine.device import isolated_rng
from genbench.engine.task import Progress, Samples, unseen

__all__ = ["FlowSamples"]


class FlowSamples(Samples):
    """A task whose model is a flow, or holds one: its latents are points of the base."""

    flow: Any
    """What draws points of the base (genbench.bijections.flow.Flow)."""

    device: torch.device

    def noise(self, count: int, seed: int) -> tuple[Tensor, ...]:
        """Points of the base."""
        return (self.latents(count, seed),)

    def from_noise(self, *noise: Tensor, progress: Progress = unseen) -> Tensor:
        return self.decode(*noise)

    def latents(self, count: int, seed: int) -> Tensor:
        with isolated_rng(seed, self.device):
            points: Tensor = self.flow.draw_base(count)
        return points

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Points of the base [N, …] → samples on the CPU."""
