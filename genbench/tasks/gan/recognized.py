"""What a classifier of the data set says of generated images, as measurements."""

from __future__ import annotations

from torch import Tensor

from genbench.engine.device import double
from genbench.engine.measurement import Better, Measurement, Quantity
from genbench.metrics.classifier import RECOGNIZED, Classifier
from genbench.metrics.recognition import Recognition

__all__ = ["RECOGNITION", "compared", "recognized"]


def _quantity(name: str, label: str, better: Better) -> Quantity:
    return Quantity(f"test/classifier_{name}", label, better=better, decimals=3, truth_label="real against real")


RECOGNITION = (
    _quantity("frechet", "Fréchet distance in a classifier's features", "lower"),
    _quantity("precision", "precision in a classifier's features", "higher"),
    _quantity("recall", "recall in a classifier's features", "higher"),
    _quantity("density", "density in a classifier's features", "higher"),
    _quantity("coverage", "coverage in a classifier's features", "higher"),
    _quantity("share_distance", "class shares, total variation from the data's", "lower"),
    Quantity("test/classes", "classes among the samples", better="higher", decimals=1),
    Quantity("test/recognized", "samples that a classifier recognizes, share", better="higher", decimals=3),
)


def compared(recognition: Recognition, images: Tensor) -> dict[str, Measurement]:
    """Scores of `recognition.count` images, each beside that of held-out real images. A generator that repeats
    training images may score better than these."""
    return {
        f"test/classifier_{name}": Measurement(value, truth=recognition.of_real[name], protocol=recognition.protocol)
        for name, value in recognition.scores(images).items()
    }


def recognized(classifier: Classifier, images: Tensor) -> dict[str, Measurement]:
    """Classes among a few images [N, C, H, W] in [0, 1], and the share of them that the classifier recognizes."""
    confidence, found = classifier.probabilities(images).max(1)
    sure = confidence >= RECOGNIZED
    protocol = {"samples": str(len(images))}
    return {
        "test/classes": Measurement(float(len(found[sure].unique())), protocol=protocol),
        "test/recognized": Measurement(double(sure).mean().item(), protocol=protocol),
        "test/classifier_accuracy": Measurement(classifier.accuracy),
    }
