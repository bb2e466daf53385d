"""Shuffled batches on the data's device, and noise that is the same on every device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from genbench.engine.device import upload

__all__ = ["BatchStream", "Batches", "NoiseStream", "ParallelBatches"]


class BatchStream(Protocol):
    """The source of the training steps' batches."""

    steps_per_epoch: int

    def next(self) -> Tensor: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Batches:
    """An endless stream of batches from a tensor [N, …]: each row once per epoch, in a new random order.

    The order comes from its own generator, so it depends on the seed alone; the position within the data is part of
    the state. With `per_step` > 1, a step takes several batches of equal size, concatenated, and the smaller last
    batch of an epoch is dropped.
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
        self._order = upload(torch.randperm(len(self.data), generator=self._generator), self.data.device)
        self._position = 0

    def next(self) -> Tensor:
        """The rows of one training step."""
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
    """Several independent streams from the same data; a step takes one batch from each, concatenated."""

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


class NoiseStream:
    """Standard-normal noise on a device, [S, *shape]: one independent stream per seed.

    Drawn on the CPU, so that it is the same on every device, and copied to one tensor, which captured steps read.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._shape = tuple(shape)
        self.noise = torch.empty(len(seeds), *shape, device=device)

    def draw(self) -> None:
        """Fill `noise` with new values."""
        drawn = torch.stack([torch.randn(self._shape, generator=generator) for generator in self._generators])
        self.noise.copy_(upload(drawn, self.noise.device))

    def state_dict(self) -> list[Tensor]:
        return [generator.get_state() for generator in self._generators]

    def load_state_dict(self, states: Sequence[Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)
