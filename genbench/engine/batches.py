"""Shuffled batches drawn where the data lie."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["Batches"]


class Batches:
    """An endless stream of batches from a tensor [N, …], each row once per epoch in fresh random order.

    The order comes from a generator of its own, so it depends on the seed alone, and the position within
    the data is part of the state.
    """

    def __init__(self, data: Tensor, size: int, seed: int, drop_last: bool = False) -> None:
        rows = len(data)
        self.data = data
        self.size = min(size, rows) if drop_last else size
        self.steps_per_epoch = rows // self.size if drop_last else -(-rows // size)
        self._generator = torch.Generator(device=data.device).manual_seed(seed)
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._epoch_state = self._generator.get_state()
        self._order = torch.randperm(len(self.data), generator=self._generator, device=self.data.device)
        self._position = 0

    def next(self) -> Tensor:
        if self._position == self.steps_per_epoch:
            self._start_epoch()
        start = self._position * self.size
        self._position += 1
        return self.data.index_select(0, self._order[start : start + self.size])

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._epoch_state, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"].cpu())
        self._start_epoch()
        self._position = state["position"]
