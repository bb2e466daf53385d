"""What a trained variational auto-encoder is used for: sampling, encoding, likelihoods."""

from __future__ import annotations

import torch
from torch import Tensor

from genbench.data.dataset import as_stored
from genbench.engine.device import isolated_rng
from genbench.engine.task import LogProb, Progress, Samples, unseen
from genbench.metrics.importance import importance_sampled_log_likelihood
from genbench.tasks.vae.judge import VaeJudging

__all__ = ["VaeUse"]


class VaeUse(Samples, VaeJudging):
    """Samples, latents and log p(x)."""

    @property
    def chunk(self) -> int:  # type: ignore[override]
        return self._batch

    def noise(self, count: int, seed: int) -> tuple[Tensor, ...]:
        """Latents of the prior, and uniform numbers for a PixelVAE's pixels."""
        return self._drawn(count, seed)

    @torch.no_grad()
    def from_noise(self, *noise: Tensor, progress: Progress = unseen) -> Tensor:
        """Mean images, or a PixelVAE's samples, where `progress` is told of every row of pixels."""
        latents, uniforms = noise
        height = self.dataset.shape[1]
        images: Tensor = self.model.images(latents, uniforms, lambda row: progress(row / height))
        return images.cpu()

    def latents(self, count: int, seed: int) -> Tensor:
        return self._drawn(count, seed)[0]

    def decode(self, z: Tensor) -> Tensor:
        _, uniforms = self._drawn(len(z), self.seed)
        rows = zip(z.split(self.chunk), uniforms.split(self.chunk), strict=True)
        return torch.cat([self.from_noise(*pair) for pair in rows])

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Means of the posterior; with a flow in it, means over samples."""
        with isolated_rng(self.seed, self.device):
            codes = map(self.model.encode, x.split(self.chunk))
            return torch.cat([self.model.posterior.means(code)[0] for code in codes])

    def log_prob(self, x: Tensor, samples: int) -> LogProb:
        with isolated_rng(self.seed, self.device):
            found = importance_sampled_log_likelihood(self.model, x, as_stored, samples, self.memory_mib)
        return LogProb(found.value.cpu(), f"lower bound in expectation: importance sampling, {samples} samples")
