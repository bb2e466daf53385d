"""Normalizing flows on images of whole numbers, judged by bits per dimension."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genbench.engine.device import double, evaluation_batch, isolated_rng
from genbench.engine.measurement import Family, Measurement, Quantity, mean_over
from genbench.engine.task import STAGE_TITLES, LogProb, Record, Stage
from genbench.errors import ConfigError
from genbench.figures.grids import image_grid, labelled_rows, stages
from genbench.figures.walks import interpolations
from genbench.metrics.importance import LogLikelihood, log_mean_weight
from genbench.registry import SampleCount, register
from genbench.tasks.base import Parts, require, require_float32, require_images
from genbench.tasks.flow_samples import FlowSamples
from genbench.tasks.pictures import SampledTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ImageFlow"]

EVALUATION_BATCH = 500
SAMPLES = 64
TEMPERATURES = (0.5, 0.7, 0.85, 1.0)
FEW = 12  # samples of each temperature
PAIRS = 6
ALPHAS = tuple(k / 10 for k in range(11))


@register("task", "image-flow")
class ImageFlow(FlowSamples, SampledTask):
    """A flow on dequantized pixels, trained by maximum likelihood.

    Bits per dimension are −log₂ P(x)/D, D the number of pixel values, for P of whole pixel values: dequantization and
    the logit's Jacobian are part of it. With one draw of the noise for each image (during training) they are an upper
    bound in expectation, with `importance_samples` draws (on the test split) a tighter one. `compile` runs the
    objective and its gradients as one compiled graph.
    """

    evaluation_options = frozenset({"importance_samples"})
    family = Family("Flows on images", likelihood="bound: dequantization")
    quantities = (
        Quantity("test/bits_per_dim", "test bits per dimension, upper bound", better="lower", decimals=3),
        Quantity("valid/bits_per_dim", "validation bits per dimension, upper bound", better="lower", decimals=3),
    )
    curves = {"bits per dimension": [f"{split}/bits_per_dim" for split in ("train", "valid", "test")]}

    def __init__(self, parts: Parts, *, importance_samples: SampleCount = 8, compile: bool = False) -> None:
        require(parts.model, "model", "image-flow", "log_prob", "flow", "to_base", "to_data", "dims", "protocol")
        require(parts.loss, "loss", "image-flow", "of_samples")
        require_images(parts.dataset, "image-flow")
        require_float32(parts, "image-flow")
        if parts.dataset.train.dtype != torch.uint8 or parts.dataset.binary:
            raise ConfigError(
                f"task=image-flow is for pixels of 256 levels, and those of {parts.dataset.name} are not",
                "choose dataset=mnist, cifar10 or svhn, or dataset=mnist5k dataset.binarized=false",
            )
        self.parts, self.model, self.loss, self.dataset = parts, parts.model, parts.loss, parts.dataset
        self.flow = parts.model.flow
        self.device, self.seed = parts.device, parts.seed
        self.optimizer = parts.make_optimizer(self.model.parameters())
        self.importance_samples = importance_samples
        self._batch = evaluation_batch(parts.device, EVALUATION_BATCH)
        self.protocol = self.model.protocol
        self._per_bit = math.log(2) * self.model.dims  # nats of an image in one bit per dimension
        self._gradients = parts.gradients(self._objective, self.model, compile)
        self._samples: dict[str, Tensor] = {}

    def _objective(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.loss.of_samples(self.model.log_prob(pixels)).mean() / self._per_bit
        return loss, {"train/bits_per_dim": loss}

    def training_step(self, batch: Tensor) -> dict[str, Tensor]:
        values = self._gradients(_pixels(batch))
        self.optimizer.step()
        return values

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, Measurement]:
        """Bits per dimension of a whole split; of the test split with all importance samples."""
        draws = self.importance_samples if split == "test" else 1
        likelihood = self._likelihood(_pixels(self.dataset.split(split)), draws)
        found = mean_over(likelihood.value, {"importance_samples": str(draws)}, likelihood.variance)
        found = replace(found, greatest=0.0)  # a probability is at most 1
        return {f"{split}/bits_per_dim": found.scaled(-1 / self._per_bit)}

    def _likelihood(self, pixels: Tensor, draws: int) -> LogLikelihood:
        """Of pixels [N, C, H, W], whole numbers 0 … 255."""
        with isolated_rng(self.seed, self.device):
            weights = [
                torch.cat([self.model.log_prob(part) for part in pixels.split(self._batch)]) for _ in range(draws)
            ]
        return log_mean_weight(double(torch.stack(weights, dim=1)))

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        return torch.cat([self.model.to_data(part).cpu() for part in z.split(self._batch)]) / 255

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Base points of the middle of every pixel's cell."""
        return torch.cat([self.model.to_base(_levels(part)) for part in x.split(self._batch)])

    @torch.no_grad()
    def log_prob(self, x: Tensor, samples: int) -> LogProb:
        found = self._likelihood(_levels(x), samples).value
        return LogProb(found.cpu(), f"lower bound in expectation: dequantization, {samples} samples")

    def _draw_samples(self) -> Tensor:
        return self.sample(SAMPLES, self.seed)

    def figures(self, stage: Stage, record: Record) -> dict[str, Figure]:
        side = math.isqrt(SAMPLES)
        figures = {"samples": image_grid(self.samples(stage), side, side, f"{record.title}, {STAGE_TITLES[stage]}")}
        if stage == "end":
            shown = {STAGE_TITLES[key]: images[:25] for key, images in self._samples.items()}
            base = self.latents(FEW, self.seed)
            warm = torch.stack([self.decode(temperature * base) for temperature in TEMPERATURES])
            names = [f"T = {temperature:g}" for temperature in TEMPERATURES]
            figures |= {
                "stages": stages(shown, f"{record.title}: samples from the same base points"),
                "temperatures": labelled_rows(warm, names, f"{record.title}: samples at temperature T"),
                "interpolations": self._interpolations(f"{record.title}: between validation images, in the base"),
            }
        return figures

    @torch.no_grad()
    def _interpolations(self, title: str) -> Figure:
        """g((1 − α) f(x0) + α f(x1)) beside (1 − α) x0 + α x1."""
        valid = self.dataset.valid
        pixels = _pixels(valid[: 2 * min(PAIRS, len(valid) // 2)])
        ends = self.model.to_base(pixels).unflatten(0, (-1, 2))
        alphas = torch.tensor(ALPHAS, device=self.device)
        weights = alphas.view(1, -1, *[1] * (ends.dim() - 2))
        between = torch.lerp(ends[:, :1], ends[:, 1:], weights)
        images = self.decode(between.flatten(0, 1)).unflatten(0, between.shape[:2])
        x = pixels.unflatten(0, (-1, 2))
        mixed = torch.lerp(x[:, :1], x[:, 1:], alphas.view(1, -1, 1, 1, 1))
        return interpolations(images, mixed.cpu() / 255, ALPHAS, title)


def _pixels(stored: Tensor) -> Tensor:
    """Bytes → whole numbers in floating point."""
    return stored.to(torch.get_default_dtype())


def _levels(x: Tensor) -> Tensor:
    """[0, 1] → whole numbers 0 … 255, in floating point."""
    return (255 * x).round()
