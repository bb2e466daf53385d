"""Data sets as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genbench.errors import DataError

__all__ = ["SPLITS", "Dataset", "as_stored", "bernoulli", "to_float32", "unit_interval"]

SPLITS = ("train", "valid", "test")
SHOWN_CLASSES = 5  # that a message names
LONGEST_CLASS = 24  # characters of a class's name in a picture


@dataclass(frozen=True)
class Dataset:
    """Three splits as tensors [N, *shape], stored compactly so that they fit on the device.

    Attributes:
        to_float: stored values → what a model sees.
        binary: every value is 0 or 1.
        protocol: details of the data (binarization, split …) that every result reports.
        labels: class of every row, by split; empty where there are none.
        class_names: what messages call class 0, 1, …; empty where numbers have to do.
    """

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor
    to_float: Callable[[Tensor], Tensor]
    binary: bool
    protocol: dict[str, str]
    labels: dict[str, Tensor] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.train.shape[1:])

    @cached_property
    def class_counts(self) -> tuple[int, ...]:
        """Training images of class 0, 1, …, 0 for a class that only other splits have; empty without labels."""
        classes = 1 + max((int(labels.max()) for labels in self.labels.values()), default=-1)
        return tuple(self.labels["train"].bincount(minlength=classes).tolist()) if self.labels else ()

    @property
    def classes(self) -> int:
        """0 without labels."""
        return len(self.class_counts)

    def class_title(self, label: int) -> str:
        """What pictures call a class."""
        if not self.class_names:
            return f"class {label}"
        name = self.class_names[label]
        return name if len(name) <= LONGEST_CLASS else f"{name[: LONGEST_CLASS - 1]}…"

    def require_every_class(self, otherwise: str) -> None:
        """Raise DataError if there are classes without training images, for what learns to tell all classes apart.

        `otherwise` is what else may be done about it than to give them images.
        """
        names = self.class_names or [str(number) for number in range(self.classes)]
        lacking = [name for name, count in zip(names, self.class_counts, strict=True) if not count]
        if lacking:
            shown = ", ".join(lacking[:SHOWN_CLASSES]) + (" …" if len(lacking) > SHOWN_CLASSES else "")
            raise DataError(
                f"{self.name} has no training images of class {shown}"
                f"\n  add images of every such class until some are for training, or leave it out, or {otherwise}"
            )

    @property
    def conditions(self) -> dict[str, str]:
        """What holds of every measurement on it, for protocols."""
        return {"dataset": self.name, **self.protocol}

    def split(self, name: str) -> Tensor:
        """The split called train, valid or test. Raises ValueError for another name."""
        if name not in SPLITS:
            raise ValueError(f"unknown split {name!r}; splits: {', '.join(SPLITS)}")
        rows: Tensor = getattr(self, name)
        return rows

    def outline(self) -> dict[str, Any] | None:
        """What `stand_in` needs of it, as JSON takes it; None for a data set that is more than tensors."""
        if type(self) is not Dataset:
            return None
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": str(self.train.dtype).removeprefix("torch."),
            "binary": self.binary,
            "sizes": {split: len(self.split(split)) for split in SPLITS},
            "class_counts": list(self.class_counts),
        }

    @staticmethod
    def stand_in(outline: Mapping[str, Any]) -> Dataset:
        """A data set of zeros that takes no memory: enough to build a trained model again, without any file."""
        zero = torch.zeros((), dtype=getattr(torch, outline["dtype"]))
        splits = {split: zero.expand(outline["sizes"][split], *outline["shape"]) for split in SPLITS}
        byte = zero.dtype == torch.uint8
        counts = torch.tensor(outline["class_counts"], dtype=torch.long, device="cpu")
        train = torch.arange(len(counts), device="cpu").repeat_interleave(counts)  # as frequent as they were
        labels = {"train": train, **{split: train.new_zeros(len(splits[split])) for split in ("valid", "test")}}
        return Dataset(
            outline["name"],
            splits["train"],
            splits["valid"],
            splits["test"],
            to_float=(to_float32 if outline["binary"] else unit_interval) if byte else as_stored,
            binary=outline["binary"],
            protocol={},
            labels=labels if len(counts) else {},
        )

    def to(self, device: torch.device) -> Dataset:
        """The same data set on `device`."""
        moved = replace(
            self,
            train=self.train.to(device),
            valid=self.valid.to(device),
            test=self.test.to(device),
            labels={split: labels.to(device) for split, labels in self.labels.items()},
        )
        vars(moved)["class_counts"] = self.class_counts  # there may be a device that does not tell, such as meta
        return moved


ROWS = 1000  # drawn at once: a draw takes eight bytes, its pixel one


def bernoulli(grey: NDArray[np.uint8], random: np.random.RandomState) -> NDArray[np.uint8]:
    """Pixels that are 1 with probability grey / 255, else 0, of the same shape [N, …].

    RandomState's stream never changes (NEP 19), unlike that of newer generators: drawn once, drawn for ever.
    """
    drawn = np.empty_like(grey)
    for first in range(0, len(grey), ROWS):
        rows = grey[first : first + ROWS]
        drawn[first : first + ROWS] = random.random_sample(rows.shape) < rows / 255
    return drawn


def to_float32(stored: Tensor) -> Tensor:
    """0 and 1 as they are."""
    return stored.to(torch.float32)


def unit_interval(stored: Tensor) -> Tensor:
    """Bytes 0 … 255 → [0, 1]."""
    return stored.to(torch.float32) / 255


def as_stored(stored: Tensor) -> Tensor:
    """Values that are stored as the model sees them."""
    return stored
