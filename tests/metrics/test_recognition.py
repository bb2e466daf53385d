"""Shares of classes, and which images are compared."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genbench.data.dataset import Dataset, unit_interval
from genbench.metrics.classifier import class_shares
from genbench.metrics.recognition import Recognition


class Levels:
    """Classifies images of one pixel by its level, 0 or 1; those between are none."""

    classes = 2

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def shares(self, images: Tensor) -> Tensor:
        level = images.flatten()
        return class_shares(torch.where(level == 0, 0, torch.where(level == 1, 1, 2)), 2)


def levels(train: int, held_out: int, same: bool = False) -> Dataset:
    def split(count: int, first: int) -> Tensor:
        return ((torch.arange(count) + first) % 2 * 255).to(torch.uint8).view(-1, 1, 1, 1)

    labels = {"train": torch.arange(train) % 2}
    valid, test = split(held_out, 0), split(held_out, 0 if same else 1)
    return Dataset("levels", split(train, 0), valid, test, unit_interval, False, {}, labels)


@pytest.mark.parametrize(
    ("train", "held_out", "same", "count"), [(50, 10, False, 20), (50, 10, True, 10), (8, 10, False, 8)]
)
def test_as_many_images_are_compared_as_are_held_out(train: int, held_out: int, same: bool, count: int) -> None:
    recognition = Recognition(Levels(), levels(train, held_out, same))  # type: ignore[arg-type]
    assert recognition.count == count == len(recognition._held_out)
    assert recognition.protocol["n_generated"] == str(count)
    assert recognition.expected.tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize(
    ("images", "distance"),
    [((0, 1), 0.0), ((0,), 0.5), ((0, 0, 0, 1), 0.25), ((0.5,), 1.0), ((0, 1, 0.5, 0.5), 0.5)],
)
def test_the_distance_of_shares_is_the_total_variation(images: tuple[float, ...], distance: float) -> None:
    recognition = Recognition(Levels(), levels(50, 10))  # type: ignore[arg-type]
    drawn = torch.tensor(images, dtype=torch.float32).repeat(20 // len(images)).view(-1, 1, 1, 1)
    assert recognition.scores(drawn)["share_distance"] == pytest.approx(distance)
