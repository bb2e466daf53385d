"""A small convolutional classifier, trained on real labelled images to recognize generated ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from genbench.data.dataset import Dataset
from genbench.engine.device import double, isolated_rng

__all__ = ["Classifier"]

IMAGES_SEEN = 40_000  # in training, whatever the size of the data set
BATCH = 100
LEARNING_RATE = 2e-3


class Classifier:
    """Class probabilities of images as the data set's `to_float` gives them.

    Attributes:
        accuracy: on the validation split.
    """

    def __init__(self, dataset: Dataset, seed: int, device: torch.device) -> None:
        """Train for a few seconds, without changing the global random state."""
        channels, height, width = dataset.shape
        classes = int(dataset.labels["train"].max()) + 1
        with isolated_rng(seed, device):
            self._network = nn.Sequential(
                nn.Conv2d(channels, 16, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.LazyLinear(128),
                nn.ReLU(),
                nn.Linear(128, classes),
            )
            self._network(torch.zeros(1, channels, height, width))  # sizes the lazy layer
            self._network.to(device)
            self._train(dataset.train, dataset.labels["train"], dataset.to_float)
        self._network.eval().requires_grad_(False)
        predicted = self.probabilities(dataset.to_float(dataset.valid)).argmax(1)
        self.accuracy = double(predicted == dataset.labels["valid"]).mean().item()

    def _train(self, images: Tensor, labels: Tensor, to_float: Callable[[Tensor], Tensor]) -> None:
        optimizer = torch.optim.Adam(self._network.parameters(), lr=LEARNING_RATE)
        for _ in range(IMAGES_SEEN // BATCH):
            rows = torch.randint(len(images), (BATCH,), device=images.device)
            loss = cross_entropy(self._network(to_float(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """[N, C, H, W] → [N, classes]."""
        return torch.cat([self._network(chunk).softmax(1) for chunk in images.split(1000)])
