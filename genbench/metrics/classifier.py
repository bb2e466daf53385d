"""A small convolutional classifier, trained on real labelled images to recognize generated ones.

Its last class is "none of them". A classifier without one has to call noise something, and is sure about it: it puts
all its mass on whichever class grows fastest away from the data (Hein et al. 2019, arXiv 1812.05720). So it also sees
images that resemble the real ones in some respect and are none (outlier exposure, Hendrycks et al. 2019, arXiv
1812.04606).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, one_hot

from genbench.data.dataset import Dataset
from genbench.engine.device import double, isolated_rng

__all__ = ["FEATURES", "RECOGNIZED", "Classifier", "class_shares", "spoiled", "worn"]

IMAGES_SEEN = 100_000  # in training, whatever the size of the data set
BATCH = 100
FEATURES = 128  # of the last layer but one
LEARNING_RATE = 2e-3
SEED = 1  # the same classifier in every run, as its features are a scale
RECOGNIZED = 0.5  # probability of one class, more than that of all others together


class Classifier:
    """Class probabilities and features of images in [0, 1], as the data set's `to_float` gives them.

    Attributes:
        classes: how many the data set has.
        accuracy: share of the validation split that it recognizes as what it is.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        """Train for about ten seconds, without changing the global random state."""
        channels, height, width = dataset.shape
        self.classes = classes = dataset.classes
        with isolated_rng(SEED, device):
            self._network = nn.Sequential(
                nn.Conv2d(channels, 16, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.LazyLinear(FEATURES),
                nn.ReLU(),
                nn.Linear(FEATURES, classes + 1),
            )
            self._network(torch.zeros(1, channels, height, width))  # sizes the lazy layer
            self._network.to(device)
            self._train(dataset.train, dataset.labels["train"], dataset.to_float)
        self._network.eval().requires_grad_(False)
        right = self.recognizes(dataset.to_float(dataset.valid), dataset.labels["valid"])
        self.accuracy = double(right).mean().item()

    @torch.enable_grad()
    def _train(self, images: Tensor, labels: Tensor, to_float: Callable[[Tensor], Tensor]) -> None:
        optimizer = torch.optim.Adam(self._network.parameters(), lr=LEARNING_RATE)
        for _ in range(IMAGES_SEEN // BATCH):
            rows = torch.randint(len(images), (BATCH,), device=images.device)
            real = to_float(images[rows])
            none = torch.full_like(labels[rows], self.classes)
            loss = cross_entropy(
                self._network(torch.cat([worn(real), spoiled(real)])), torch.cat([labels[rows], none])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """[N, C, H, W] → [N, classes]; what is left to 1 is the probability that an image is none of them."""
        return torch.cat([self._network(chunk).softmax(1)[:, :-1] for chunk in images.split(1000)])

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """[N, C, H, W] → [N, 128], not negative: what its last layer tells the classes by."""
        return torch.cat([self._network[:-1](chunk) for chunk in images.split(1000)])

    def shares(self, images: Tensor) -> Tensor:
        """[N, C, H, W] → [classes + 1], float64: how much of the images is recognized as each class, and the rest."""
        confidence, found = self.probabilities(images).max(1)
        return class_shares(found.where(confidence >= RECOGNIZED, self.classes), self.classes)

    def recognizes(self, images: Tensor, labels: Tensor) -> Tensor:
        """[N], boolean: which of the images [N, C, H, W] it recognizes as what their labels [N] say."""
        confidence, predicted = self.probabilities(images).max(1)
        return (predicted == labels) & (confidence >= RECOGNIZED)


def class_shares(labels: Tensor, classes: int) -> Tensor:
    """Labels [N], `classes` meaning none of them → their shares [classes + 1] in float64."""
    return double(one_hot(labels, classes + 1)).mean(0)


def worn(images: Tensor) -> Tensor:
    """Images in [0, 1] with less contrast and some noise, which generated ones may have and be recognized."""
    contrast, noise = torch.rand(2, len(images), 1, 1, 1, device=images.device)
    flawed: Tensor = ((1 - 0.3 * contrast) * images + 0.2 * noise * torch.randn_like(images)).clamp(0, 1)
    return flawed


def spoiled(images: Tensor) -> Tensor:
    """[N, C, H, W] in [0, 1], as many non-images as there are images, made from them; a fifth of each kind.

    Their pixels shuffled; opposite quarters exchanged; a strong blur; the mean of two; noise of any level and
    contrast. The whole is mixed with grey and noise at random, so that faint images are none, either.
    """
    shuffled, tiles, blurred, doubled, noise = images.tensor_split(5)
    height, width = images.shape[2:]
    shuffled = shuffled.flatten(2)[..., torch.randperm(height * width, device=images.device)].view_as(shuffled)
    tiles = tiles.roll((-(height // 2), -(width // 2)), (2, 3))
    kernel = 2 * (height // 6) + 1
    blurred = avg_pool2d(blurred, kernel, stride=1, padding=kernel // 2)
    doubled = (doubled + doubled.roll(1, 0)) / 2
    level, contrast = torch.rand(2, len(noise), 1, 1, 1, device=images.device)
    noise = level + contrast * (torch.rand_like(noise) - 0.5)
    none = torch.cat([shuffled, tiles, blurred, doubled, noise])
    level, share = torch.rand(2, len(none), 1, 1, 1, device=images.device)
    return torch.lerp(none, level + 0.5 * (torch.rand_like(none) - 0.5), share.square()).clamp(0, 1)
