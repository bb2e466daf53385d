"""Shuffled batches on the data's device, and noise that is the same on every device."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from genbench.engine.device import upload

__all__ = ["Batch", "Batches", "NoiseStream", "in_chunks"]

Batch = tuple[Tensor, ...]
"""What one training step consumes: the same rows of each of a task's training tensors."""


def in_chunks(size: int, *tensors: Tensor) -> Iterator[Batch]:
    """The rows of tensors of one length, `size` at a time."""
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


class Batches:
    """An endless stream of batches, the same rows of several tensors [N, …]: each row once per epoch, in a new random
    order.

    The order comes from its own generator, so it depends on the seed alone; the position within the data is part of
    the state. With `per_step` > 1, a step takes several batches of equal size, concatenated, and the smaller last
    batch of an epoch is dropped.
    """

    def __init__(self, data: Batch, size: int, seed: int, drop_last: bool = False, per_step: int = 1) -> None:
        rows = len(data[0])
        if any(len(tensor) != rows for tensor in data):
            raise ValueError(f"tensors of different lengths: {', '.join(str(len(tensor)) for tensor in data)}")
        drop_last = drop_last or per_step > 1
        self.data = data
        self.size = min(size, rows) if drop_last else size
        self._per_epoch = rows // self.size if drop_last else -(-rows // size)
        self._per_step = per_step
        self.steps_per_epoch = -(-self._per_epoch // per_step)
        self._generator = torch.Generator().manual_seed(seed)  # on the CPU: the same order on every device
        self._start_epoch()

    def over(self, data: Batch) -> Batches:
        """A stream of its own that goes on from here with the same rows of other data, as long."""
        other = copy.copy(self)
        other.data, other._generator = data, torch.Generator()
        other.load_state_dict(self.state_dict())
        return other

    def _start_epoch(self) -> None:
        self._epoch_state = self._generator.get_state()
        self._order: Tensor | None = None
        self._position = 0

    def _drawn(self) -> Tensor:
        """This epoch's order, which is drawn when it is needed: where it is not, a stream costs nothing."""
        if self._order is None:
            first = self.data[0]
            self._order = upload(torch.randperm(len(first), generator=self._generator), first.device)
        return self._order

    def next(self) -> Batch:
        """The rows of one training step."""
        if self._per_step == 1:
            return self._next_batch()
        batches = [self._next_batch() for _ in range(self._per_step)]
        return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))

    def _next_batch(self) -> Batch:
        if self._position == self._per_epoch:
            self._drawn()  # so that the generator is where the next epoch starts
            self._start_epoch()
        start = self._position * self.size
        self._position += 1
        rows = self._drawn()[start : start + self.size]
        return tuple(tensor.index_select(0, rows) for tensor in self.data)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._epoch_state, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"])
        self._start_epoch()
        self._position = state["position"]


class NoiseStream:
    """Standard-normal noise of one shape on a device, from a generator of its own.

    Drawn on the CPU, so that it is the same on every device, and copied to one tensor, which captured steps read.
    """

    def __init__(self, seed: int, shape: Sequence[int], device: torch.device) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.noise = torch.empty(*shape, device=device)

    def fork(self) -> NoiseStream:
        """A stream of its own that goes on from here."""
        other = NoiseStream(0, self.noise.shape, self.noise.device)
        other.load_state_dict(self.state_dict())
        return other

    def draw(self) -> None:
        """Fill `noise` anew."""
        drawn = torch.randn(self.noise.shape, generator=self._generator)
        self.noise.copy_(upload(drawn, self.noise.device))

    def state_dict(self) -> Tensor:
        return self._generator.get_state()

    def load_state_dict(self, state: Tensor) -> None:
        self._generator.set_state(state)
