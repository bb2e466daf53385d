"""Variational auto-encoders: trained on the evidence lower bound, judged by it and by importance sampling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genbench.engine.device import isolated_rng
from genbench.engine.gradients import Gradients
from genbench.engine.task import STAGE_TITLES, Record, Stage, Task
from genbench.errors import ConfigError
from genbench.figures.curves import learning_curves
from genbench.figures.grids import image_grid, latent_manifold, manifold_quantiles, reconstructions, stages
from genbench.functional import log_likelihood_bernoulli_logits, sample_gaussian
from genbench.losses.elbo import ElboTerms
from genbench.metrics.importance import importance_sampled_log_likelihood
from genbench.registry import PositiveInt, register
from genbench.tasks.base import Parts, require, require_float32

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Variational"]

EVALUATION_BATCH = 2000
MANIFOLD_SIDE = 20
SAMPLES = 64


@register("task", "variational")
class Variational(Task):
    """A VAE with Bernoulli likelihood and standard-normal prior.

    `importance_samples` K and `memory_mib` belong to the final test log-likelihood: K posterior samples per
    image, decoded in chunks that need about that much memory. `compile` runs the training objective and
    its gradients through torch.compile: faster steps after a warm-up of several seconds; its noise differs from the
    eager one.
    """

    batches_per_step = 1
    directions = {
        "valid/elbo": "higher",
        "test/elbo": "higher",
        "test/log_likelihood": "higher",
    }
    charts = {
        "evidence lower bound (nats)": ["train/elbo", "valid/elbo"],
        "KL divergence (nats)": ["train/kl", "valid/kl"],
    }

    def __init__(
        self,
        parts: Parts,
        *,
        importance_samples: PositiveInt = 200,
        memory_mib: PositiveInt = 256,
        compile: bool = False,
    ) -> None:
        require(parts.model, "model", "variational", "encode", "decode", "latent_dim")
        require(parts.loss, "loss", "variational", "terms")
        require_float32(parts, "variational")
        if not parts.dataset.binary:
            raise ConfigError(
                f"a Bernoulli likelihood needs binary images, and those of {parts.dataset.name} are grey",
                "choose a binarized data set: dataset=binmnist or dataset=mnist5k",
            )
        self.parts = parts
        self.model, self.loss, self.dataset = parts.model, parts.loss, parts.dataset
        self.optimizer = parts.make_optimizer(self.model.parameters())
        self.device, self.seed = parts.device, parts.seed
        self.importance_samples, self.memory_mib = importance_samples, memory_mib
        self.protocol = {"importance_samples": importance_samples, "kl": self.loss.kl}
        self._gradients = Gradients(
            self._objective, self.model.parameters(), compile_for=parts.batch_size if compile else None
        )
        with isolated_rng(self.seed, self.device):  # the same latents at every stage
            self._latents = torch.randn(SAMPLES, self.model.latent_dim, device=self.device)
        self._samples: dict[str, Tensor] = {}

    def elbo_terms(self, x: Tensor) -> ElboTerms:
        """Log-likelihood and KL term per image, with one posterior sample; x is [B, C, H, W] of 0 and 1."""
        mu, logvar = self.model.encode(x)
        z = sample_gaussian(mu, logvar)
        return self.loss.terms(log_likelihood_bernoulli_logits(self.model.decode(z), x), mu, logvar, z)

    def _objective(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        log_likelihood, kl = (term.mean() for term in self.elbo_terms(x))
        loss = kl - log_likelihood
        return loss, {"train/elbo": -loss, "train/kl": kl}

    def training_step(self, batch: Tensor) -> dict[str, Tensor]:
        values = self._gradients(self.dataset.to_float(batch))
        self.optimizer.step()
        return values

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """`elbo`, `kl` and, on the test split, `log_likelihood` with its standard error; nats per image."""
        images = self.dataset.split(split)
        with isolated_rng(self.seed, self.device):
            totals = torch.zeros(2, dtype=torch.float64, device=self.device)
            for batch in images.split(EVALUATION_BATCH):
                terms = self.elbo_terms(self.dataset.to_float(batch))
                totals += torch.stack([terms.elbo.double().sum(), terms.kl.double().sum()])
            elbo, kl = (totals / len(images)).tolist()
            values = {f"{split}/elbo": elbo, f"{split}/kl": kl}
            if split == "test":
                values |= self._log_likelihood(images)
        return values

    def _log_likelihood(self, images: Tensor) -> dict[str, float]:
        per_image = importance_sampled_log_likelihood(
            self.model, images, self.dataset.to_float, self.importance_samples, self.memory_mib
        )
        return {
            "test/log_likelihood": per_image.mean().item(),
            "test/log_likelihood_standard_error": (per_image.std() / math.sqrt(len(per_image))).item(),
        }

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents).sigmoid().cpu()

    def figures(self, stage: Stage, record: Record) -> dict[str, Figure]:
        title = f"{record.title}, {STAGE_TITLES[stage]}"
        self._samples[stage] = self._decode(self._latents)
        side = math.isqrt(SAMPLES)
        figures = {
            "samples": image_grid(self._samples[stage], side, side, f"{title}: mean images of prior samples"),
            "reconstructions": self._reconstructions(f"{title}: validation images"),
        }
        if self.model.latent_dim == 2:
            figures["manifold"] = self._manifold(f"{title}: latent manifold")
        if stage == "end":
            panels = {STAGE_TITLES[key]: images for key, images in self._samples.items()}
            figures["stages"] = stages(panels, f"{record.title}: mean images of the same prior samples")
            figures["elbo"] = learning_curves(
                record.curve("train/elbo"),
                record.curve("valid/elbo"),
                record.references("valid/elbo"),
                record.title,
            )
        return figures

    @torch.no_grad()
    def _reconstructions(self, title: str) -> Figure:
        originals = self.dataset.to_float(self.dataset.valid[:20])
        mu, _ = self.model.encode(originals)
        return reconstructions(originals.cpu(), self._decode(mu), title)

    def _manifold(self, title: str) -> Figure:
        """The decoder over a grid of standard-normal quantiles (Kingma & Welling 2014, figure 4)."""
        quantiles = torch.tensor(manifold_quantiles(MANIFOLD_SIDE), dtype=torch.float32, device=self.device)
        z2, z1 = torch.meshgrid(quantiles, quantiles, indexing="ij")
        return latent_manifold(self._decode(torch.stack([z1, z2], dim=-1).view(-1, 2)), MANIFOLD_SIDE, title)

    def images(self, stage: Stage) -> dict[str, Tensor]:
        from torchvision.utils import make_grid  # seconds to import: only where images are drawn

        return {"prior": make_grid(self._samples[stage], nrow=math.isqrt(SAMPLES), padding=1, pad_value=0.5)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "samples": dict(self._samples),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._samples = dict(state["samples"])
