"""Shuffled batches drawn where the data lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["BatchStream", "Batches", "ParallelBatches"]


class BatchStream(Protocol):
    """What training steps are fed from."""

    steps_per_epoch: int

    def next(self) -> Tensor: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Batches:
    """An endless stream of batches from a tensor [N, …], each row once per epoch in fresh random order.

    The order comes from a generator of its own, so it depends on the seed alone, and the position within
    the data is part of the state. A training step that wants several batches draws them concatenated (`per_step`),
    all of one size: then an epoch's last, smaller batch is left out.
    """

    def __init__(self, data: Tensor, size: int, seed: int, drop_last: bool = False, per_step: int = 1) -> None:
        rows = len(data)
        drop_last = drop_last or per_step > 1
        self.data = data
        self.size = min(size, rows) if drop_last else size
        self._per_epoch = rows // self.size if drop_last else -(-rows // size)
        self._per_step = per_step
        self.steps_per_epoch = -(-self._per_epoch // per_step)
        self._generator = torch.Generator().manual_seed(seed)  # on the CPU: the same order on every device
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._epoch_state = self._generator.get_state()
        order = torch.randperm(len(self.data), generator=self._generator)
        if self.data.is_cuda:
            order = order.pin_memory()  # from other memory the copy would wait for the device
        self._order = order.to(self.data.device, non_blocking=True)
        self._position = 0

    def next(self) -> Tensor:
        """What one training step consumes."""
        if self._per_step == 1:
            return self._next_batch()
        return torch.cat([self._next_batch() for _ in range(self._per_step)])

    def _next_batch(self) -> Tensor:
        if self._position == self._per_epoch:
            self._start_epoch()
        start = self._position * self.size
        self._position += 1
        return self.data.index_select(0, self._order[start : start + self.size])

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._epoch_state, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"])
        self._start_epoch()
        self._position = state["position"]


class ParallelBatches:
    """Several streams from the same data, each as it would be alone; a step takes one batch of each, concatenated."""

    def __init__(self, data: Tensor, size: int, seeds: Sequence[int], drop_last: bool = False) -> None:
        self.streams = [Batches(data, size, seed, drop_last) for seed in seeds]
        self.steps_per_epoch = self.streams[0].steps_per_epoch

    def next(self) -> Tensor:
        return torch.cat([stream.next() for stream in self.streams])

    def state_dict(self) -> dict[str, Any]:
        return {"streams": [stream.state_dict() for stream in self.streams]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for stream, own in zip(self.streams, state["streams"], strict=True):
            stream.load_state_dict(own)
