"""Autoregressive models of binary images: trained and judged by their exact log-likelihood."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genbench.engine.batches import Batch, in_chunks
from genbench.engine.device import double, evaluation_batch, isolated_rng
from genbench.engine.measurement import Family, Measurement, Quantity, mean_over
from genbench.engine.task import STAGE_TITLES, LogProb, Progress, Record, Samples, Stage, unseen
from genbench.errors import ConfigError
from genbench.figures.grids import image_grid, stages
from genbench.figures.receptive import receptive_field
from genbench.metrics.classifier import Classifier
from genbench.registry import register
from genbench.tasks.base import Parts, require, require_float32, require_images
from genbench.tasks.classes import CLASS_ACCURACY, CLASSIFIED, Classes
from genbench.tasks.pictures import SampledTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Autoregressive"]

EVALUATION_BATCH = 500
SAMPLES = 49


@register("task", "autoregressive")
class Autoregressive(Samples, SampledTask):
    """log p(x) = Σ_i log p(x_i | x_<i), exact, of whole images; log p(x|y) of a class-conditional model.

    `classes` has a classifier, trained on the real images, count how many samples of a class-conditional model are of
    the class asked for. `compile` runs the objective and its gradients as one compiled graph.
    """

    family = Family("Autoregressive models", likelihood="exact")
    quantities = (
        Quantity("test/log_likelihood", "test log p(x), exact", "nats", "higher", 2),
        Quantity("valid/log_likelihood", "validation log p(x), exact", "nats", "higher", 2),
        CLASS_ACCURACY,
    )
    evaluation_options = frozenset({"classes"})
    curves = {"log-likelihood (nats)": [f"{split}/log_likelihood" for split in ("train", "valid", "test")]}

    def __init__(self, parts: Parts, *, classes: bool = False, compile: bool = False) -> None:
        require(parts.model, "model", "autoregressive", "log_prob", "sample", "receptive_field")
        require(parts.loss, "loss", "autoregressive", "of_samples")
        require_images(parts.dataset, "autoregressive")
        require_float32(parts, "autoregressive")
        if not parts.dataset.binary:
            raise ConfigError(
                f"a Bernoulli likelihood needs binary images, and those of {parts.dataset.name} are not",
                "choose a binarized data set: dataset=binmnist or dataset=mnist5k",
            )
        self.parts, self.model, self.loss, self.dataset = parts, parts.model, parts.loss, parts.dataset
        self.device, self.seed = parts.device, parts.seed
        self.classes = Classes(parts)
        self.protocol = self.classes.protocol
        self._classified = self.classes.classified(classes)
        self._batch = evaluation_batch(self.device, EVALUATION_BATCH)
        self.optimizer = parts.make_optimizer(self.model.parameters())
        self._gradients = parts.gradients(self._objective, self.model, compile)
        # The same at every stage.
        self._uniforms, *self._labels = *self.noise(SAMPLES, self.seed), *self.labels(SAMPLES, self.seed)
        self._samples: dict[str, Tensor] = {}

    @property
    def training_data(self) -> Batch:
        return self.classes.training_data

    def _objective(self, x: Tensor, *labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.loss.of_samples(self.model.log_prob(x, *labels)).mean()
        return loss, {"train/log_likelihood": -loss}

    def training_step(self, batch: Tensor, *labels: Tensor) -> dict[str, Tensor]:
        values = self._gradients(self.dataset.to_float(batch), *labels)
        self.optimizer.step()
        return values

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, Measurement]:
        """Nats per image of a whole split; of the test split with standard error, and in bits per dimension."""
        rows = in_chunks(self._batch, self.dataset.split(split), *self.classes.of(split))
        parts = [self.model.log_prob(self.dataset.to_float(stored), *labels) for stored, *labels in rows]
        found = double(torch.cat(parts))
        judged = replace(mean_over(found), greatest=0.0)  # a probability is at most 1
        values = {f"{split}/log_likelihood": judged}
        if split == "test":
            values["test/bits_per_dim"] = judged.scaled(-1 / math.log(2) / math.prod(self.dataset.shape))
        if split == "test" and self._classified:
            classifier = Classifier(self.dataset, self.device)
            values |= self.classes.accuracy(classifier, self.sample(CLASSIFIED, self.scoring_seed), self.scoring_seed)
        return values

    def noise(self, count: int, seed: int) -> tuple[Tensor, ...]:
        """A uniform number for every pixel."""
        with isolated_rng(seed, self.device):
            return (torch.rand(count, *self.dataset.shape, device=self.device),)

    def labels(self, count: int, seed: int, label: int | None = None) -> Batch:
        return self.classes.drawn(count, seed, label)

    def from_noise(self, *noise: Tensor, progress: Progress = unseen) -> Tensor:
        """`progress` is told after every row of pixels."""
        uniforms, *labels = noise
        height = self.dataset.shape[1]
        images: Tensor = self.model.sample(
            None, *labels, uniforms=uniforms, progress=lambda row: progress(row / height)
        )
        return images.cpu()

    @torch.no_grad()
    def log_prob(self, x: Tensor, samples: int, label: int | None = None) -> LogProb:
        chunks = in_chunks(self._batch, x, *self.classes.given(len(x), label))
        found = torch.cat([self.model.log_prob(*chunk) for chunk in chunks])
        return LogProb(double(found).cpu(), "exact")

    def _draw_samples(self) -> Tensor:
        return self.from_noise(self._uniforms, *self._labels)

    def figures(self, stage: Stage, record: Record) -> dict[str, Figure]:
        side = math.isqrt(SAMPLES)
        figures = {"samples": image_grid(self.samples(stage), side, side, f"{record.title}, {STAGE_TITLES[stage]}")}
        if stage == "start":
            _, height, width = self.dataset.shape
            middle = height // 2, width // 2
            seen = self.model.receptive_field(*middle).cpu()
            figures["receptive-field"] = receptive_field(seen, *middle, f"{record.title}: what one pixel sees")
        if stage == "end":
            shown = {STAGE_TITLES[key]: images for key, images in self._samples.items()}
            figures["stages"] = stages(shown, f"{record.title}: samples from the same uniform numbers")
            figures |= self.classes.figures(self, record.title)
        return figures

    def state_dict(self) -> dict[str, Any]:
        # Another device would draw other numbers.
        return super().state_dict() | {"uniforms": self._uniforms}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._uniforms = state["uniforms"].to(self.device)
