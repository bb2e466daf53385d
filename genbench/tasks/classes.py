"""The labels that class-conditional models are given, in training, evaluation and sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genbench.engine.batches import Batch, in_chunks
from genbench.engine.device import double
from genbench.engine.measurement import Measurement, Quantity, mean_over
from genbench.engine.task import knows_no_classes
from genbench.errors import ConfigError
from genbench.figures.grids import labelled_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from genbench.engine.task import Samples
    from genbench.metrics.classifier import Classifier
    from genbench.tasks.base import Parts

__all__ = ["CLASSIFIED", "CLASS_ACCURACY", "Classes"]

CLASS_ACCURACY = Quantity(
    "test/class_accuracy",
    "samples that a classifier takes for the class asked for, share",
    better="higher",
    decimals=3,
)
CLASSIFIED = 500  # samples
SHOWN_CLASSES, COLUMNS = 20, 10  # in the picture of all classes
STREAM = 1  # of random numbers, apart from those that a seed alone gives


class Classes:
    """The classes that a model is conditional on, if it is.

    Labels come as a tuple: of one tensor [N], or of none where the model has no classes. They are passed on to
    networks as `*labels`, so that a task is written once for both.

    Raises DataError if it is conditional on a class without training images.

    Attributes:
        count: of the classes.
        protocol: what all measurements of the model depend on: log p(x|y) is not log p(x).
    """

    def __init__(self, parts: Parts) -> None:
        self.count = parts.classes
        self.protocol = {"conditional": "class"} if self.count else {}
        if self.count:
            parts.dataset.require_every_class("set model.conditional=false")
        self._dataset, self._device, self._seed = parts.dataset, parts.device, parts.seed

    @property
    def training_data(self) -> Batch:
        """What a training step consumes: the training images, and their labels."""
        return (self._dataset.train, *self.of("train"))

    def classified(self, asked: bool) -> bool:
        """Whether a classifier is to judge samples. Raises ConfigError if that is asked for without classes."""
        if asked and not self.count:
            raise ConfigError(
                "this model knows no classes that its samples could be of",
                "set task.classes=false or model.conditional=true",
            )
        return asked

    def of(self, split: str) -> Batch:
        """The labels of a split."""
        return (self._dataset.labels[split],) if self.count else ()

    def given(self, count: int, label: int | None) -> Batch:
        """The same label for `count` rows. Raises ConfigError for one that the model does not know, and for none."""
        if label is None and self.count:
            raise ConfigError(
                "this model is class-conditional, and was not told a class", f"give a label, 0 to {self.count - 1}"
            )
        return self.drawn(count, 0, label)

    def drawn(self, count: int, seed: int, label: int | None = None) -> Batch:
        """Labels to sample images of: `label`, or random ones with the frequencies of the training split, the same on
        every device. Raises ConfigError for a label that the model does not know."""
        if label is not None and not self.count:
            raise knows_no_classes()
        if not self.count:
            return ()
        if label is not None:
            if not 0 <= label < self.count:
                raise ConfigError(f"no class {label}: this model knows 0 to {self.count - 1}", "ask for one of these")
            return (torch.full((count,), label, device=self._device),)
        shares = np.array(self._dataset.class_counts) / sum(self._dataset.class_counts)
        random = np.random.RandomState([STREAM, seed % 2**32])  # its stream never changes (NEP 19)
        return (torch.from_numpy(random.choice(self.count, count, p=shares)).to(self._device),)

    def figures(self, task: Samples, title: str) -> dict[str, Figure]:
        """A picture "classes" with a row for each class, each column from the same random numbers; none without
        classes."""
        if not self.count:
            return {}
        rows = min(self.count, SHOWN_CLASSES)
        noise = [each.repeat(rows, *[1] * (each.dim() - 1)) for each in task.noise(COLUMNS, self._seed)]
        labels = torch.arange(rows, device=self._device).repeat_interleave(COLUMNS)
        images = torch.cat([task.from_noise(*chunk) for chunk in in_chunks(task.chunk, *noise, labels)])
        images = images.unflatten(0, (rows, COLUMNS))
        told = "every class" if rows == self.count else f"{rows} of {self.count} classes"
        names = [self._dataset.class_title(k) for k in range(rows)]
        return {"classes": labelled_rows(images, names, f"{title}: {told}")}

    def accuracy(self, classifier: Classifier, images: Tensor, seed: int) -> dict[str, Measurement]:
        """The share of a task's `sample(N, seed)` [N, C, H, W] that a classifier takes for what they are to be."""
        (labels,) = self.drawn(len(images), seed)
        right = double(classifier.recognizes(images.to(self._device), labels))
        return {
            CLASS_ACCURACY.name: mean_over(right, {"samples": str(len(images))}),
            "test/classifier_accuracy": Measurement(classifier.accuracy),
        }
