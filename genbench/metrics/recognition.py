"""Generated images as a classifier of their data set sees them: distances in its features, shares of its classes.

A count of recognized images is 1 for a generator that draws the same good image always. These scores fail it: they
compare distributions. Each stands beside the value that as many real images get, which neither the generator nor the
classifier has seen.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from genbench.data.dataset import Dataset
from genbench.metrics import fidelity
from genbench.metrics.classifier import FEATURES, Classifier, class_shares

__all__ = ["SCORES", "Recognition"]

SCORES = ("frechet", "precision", "recall", "density", "coverage", "share_distance")


class Recognition:
    """Scores of generated images against training images, equally many.

    `frechet`, `precision`, `recall`, `density` and `coverage` are those of `genbench.metrics.fidelity` in the
    classifier's features. `share_distance` is the total variation ½ Σ |p_c − q_c| between the shares of recognized
    classes, images that are none of them as one more, and those of the training labels: between 0 and 1.

    Attributes:
        count: images of each kind: as many as the training split has, or the others have, at most 10,000.
        expected: shares [classes + 1] of the training labels.
    """

    def __init__(self, classifier: Classifier, dataset: Dataset) -> None:
        one = torch.equal(dataset.valid, dataset.test)  # as of CIFAR-10
        held_out = dataset.test if one else torch.cat([dataset.valid, dataset.test])
        self.count = min(len(dataset.train), len(held_out), fidelity.POOL_ROWS)
        self.classifier, self._dataset = classifier, dataset
        self._held_out = fidelity.drawn(held_out, self.count)
        self.expected = class_shares(dataset.labels["train"], classifier.classes)

    def scores(self, images: Tensor) -> dict[str, float]:
        """SCORES of [count, C, H, W] in [0, 1]."""
        features = self.classifier.features(images)
        precision, recall = fidelity.precision_recall(features, self._real)
        density, coverage = fidelity.density_coverage(features, self._real)
        return {
            "frechet": fidelity.frechet_distance(fidelity.statistics(features), self._statistics),
            "precision": precision,
            "recall": recall,
            "density": density,
            "coverage": coverage,
            "share_distance": (self.classifier.shares(images) - self.expected).abs().sum().item() / 2,
        }

    @cached_property
    def of_real(self) -> dict[str, float]:
        """SCORES of real images that are held out."""
        return self.scores(self._dataset.to_float(self._held_out))

    @property
    def protocol(self) -> dict[str, str]:
        return {
            "n_generated": str(self.count),
            "n_reference": str(self.count),
            "reference_split": f"{self._dataset.name} train",
            "features": f"{FEATURES} of the data set's classifier",
        }

    @cached_property
    def _real(self) -> Tensor:
        return self.classifier.features(self._dataset.to_float(fidelity.drawn(self._dataset.train, self.count)))

    @cached_property
    def _statistics(self) -> fidelity.Statistics:
        return fidelity.statistics(self._real)
