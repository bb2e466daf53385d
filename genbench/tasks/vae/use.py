"""What a trained variational auto-encoder is used for: sampling, encoding, likelihoods."""

from __future__ import annotations

import torch
from torch import Tensor

from genbench.data.dataset import as_stored
from genbench.engine.batches import Batch, in_chunks
from genbench.engine.device import isolated_rng
from genbench.engine.measurement import Measurement
from genbench.engine.task import LogProb, Progress, Samples, unseen
from genbench.metrics.classifier import Classifier
from genbench.metrics.importance import importance_sampled_log_likelihood
from genbench.tasks.classes import CLASSIFIED
from genbench.tasks.vae.judge import VaeJudging

__all__ = ["VaeUse"]


class VaeUse(Samples, VaeJudging):
    """Samples, latents and log p(x)."""

    def evaluate(self, split: str) -> dict[str, Measurement]:
        """As of `VaeJudging`, and how many samples a classifier takes for what they are to be."""
        values = super().evaluate(split)
        if split == "test" and self._classified:
            classifier = Classifier(self.dataset, self.device)
            images = self.sample(CLASSIFIED, self.scoring_seed)
            if self.dataset.binary:  # a classifier of binary images knows no means of them
                with isolated_rng(self.seed, self.device):
                    images = torch.bernoulli(images)
            values |= self.classes.accuracy(classifier, images, self.scoring_seed)
        return values

    @property
    def chunk(self) -> int:  # type: ignore[override]
        return self._batch

    def noise(self, count: int, seed: int) -> tuple[Tensor, ...]:
        """Latents of the prior, and uniform numbers for a PixelVAE's pixels."""
        return self._drawn(count, seed)

    def labels(self, count: int, seed: int, label: int | None = None) -> Batch:
        return self.classes.drawn(count, seed, label)

    @torch.no_grad()
    def from_noise(self, *noise: Tensor, progress: Progress = unseen) -> Tensor:
        """Mean images, or a PixelVAE's samples, where `progress` is told of every row of pixels."""
        height = self.dataset.shape[1]
        images: Tensor = self.model.images(*noise, progress=lambda row: progress(row / height))
        return images.cpu()

    def latents(self, count: int, seed: int) -> Tensor:
        return self._drawn(count, seed)[0]

    def decode(self, z: Tensor, label: int | None = None) -> Tensor:
        _, uniforms = self._drawn(len(z), self.seed)
        rows = in_chunks(self.chunk, z, uniforms, *self.classes.given(len(z), label))
        return torch.cat([self.from_noise(*chunk) for chunk in rows])

    def encode(self, x: Tensor, label: int | None = None) -> Tensor:
        return self.means(x, *self.classes.given(len(x), label))

    @torch.no_grad()
    def means(self, x: Tensor, *labels: Tensor) -> Tensor:
        """Means of the posterior; with a flow in it, means over samples."""
        with isolated_rng(self.seed, self.device):
            codes = [self.model.encode(*rows) for rows in in_chunks(self.chunk, x, *labels)]
            return torch.cat([self.model.posterior.means(code)[0] for code in codes])

    def log_prob(self, x: Tensor, samples: int, label: int | None = None) -> LogProb:
        labels = self.classes.given(len(x), label)
        with isolated_rng(self.seed, self.device):
            found = importance_sampled_log_likelihood(self.model, x, as_stored, samples, self.memory_mib, *labels)
        return LogProb(found.value.cpu(), f"lower bound in expectation: importance sampling, {samples} samples")
