"""Data sets as tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

__all__ = ["Dataset", "as_stored", "to_float32", "unit_interval"]


@dataclass(frozen=True)
class Dataset:
    """Three splits as tensors [N, *shape], stored compactly so that they fit on the device.

    Attributes:
        to_float: stored values → what a model sees.
        binary: every value is 0 or 1.
        protocol: details of the data (binarization, split …) that every result reports.
        labels: class of every row, by split; empty where there are none.
    """

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor
    to_float: Callable[[Tensor], Tensor]
    binary: bool
    protocol: dict[str, str]
    labels: dict[str, Tensor] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.train.shape[1:])

    def split(self, name: str) -> Tensor:
        """The split called train, valid or test. Raises ValueError for another name."""
        splits = {"train": self.train, "valid": self.valid, "test": self.test}
        if name not in splits:
            raise ValueError(f"unknown split {name!r}; splits: {', '.join(splits)}")
        return splits[name]

    def to(self, device: torch.device) -> Dataset:
        """The same data set on `device`."""
        return replace(
            self,
            train=self.train.to(device),
            valid=self.valid.to(device),
            test=self.test.to(device),
            labels={split: labels.to(device) for split, labels in self.labels.items()},
        )


def to_float32(stored: Tensor) -> Tensor:
    """0 and 1 as they are."""
    return stored.to(torch.float32)


def unit_interval(stored: Tensor) -> Tensor:
    """Bytes 0 … 255 → [0, 1]."""
    return stored.to(torch.float32) / 255


def as_stored(stored: Tensor) -> Tensor:
    """Values that are stored as the model sees them."""
    return stored
