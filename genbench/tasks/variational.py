"""Variational auto-encoders: trained on the evidence lower bound, judged by it and by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from genbench.engine.device import double, isolated_rng
from genbench.engine.gradients import Gradients
from genbench.engine.task import STAGE_TITLES, Record, Stage
from genbench.errors import ConfigError
from genbench.figures.curves import learning_curves
from genbench.figures.grids import (
    image_grid,
    latent_manifold,
    manifold_quantiles,
    reconstructions,
    stages,
    traversals,
)
from genbench.figures.posteriors import collapse_panel, latent_bars
from genbench.functional import sample_gaussian
from genbench.losses.elbo import ElboTerms, doubly_reparameterised
from genbench.metrics.importance import importance_sampled_log_likelihood
from genbench.metrics.latents import ACTIVE, latent_use
from genbench.registry import NonNegativeInt, PositiveInt, Range, register
from genbench.tasks.base import Parts, require, require_float32
from genbench.tasks.pictures import SampledTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Variational"]

EVALUATION_BATCH = 2000
MANIFOLD_SIDE = 20
SAMPLES = 64


# Validation images, and samples for each of them, from which the picture of a bound beside what it bounds is drawn.
PANEL_IMAGES, PANEL_SAMPLES = 100, 100
COLLAPSED = 1.0  # nats of the KL term, below which the latents say next to nothing of an image
TRAVERSED = 8  # latents that are shown
TRAVERSAL = (-3.0, -2.25, -1.5, -0.75, 0.0, 0.75, 1.5, 2.25, 3.0)  # in standard deviations of the prior


@register("task", "variational")
class Variational(SampledTask):
    """A VAE of any posterior and likelihood, with a standard-normal prior.

    `importance_samples` K and `memory_mib` belong to the final test log-likelihood: K posterior samples per
    image, decoded in chunks that need about that much memory; of the first `importance_images` alone, if given.
    `pixelcnn_from_step` is the update with which a PixelVAE's PixelCNN joins in: until then the decoder learns alone.
    `compile` runs the training objective and its gradients through torch.compile: faster steps after a warm-up of
    several seconds; its noise differs from the eager one.
    """

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
        importance_images: Annotated[int, Range(minimum=2)] | None = None,
        memory_mib: PositiveInt = 256,
        pixelcnn_from_step: NonNegativeInt = 0,
        compile: bool = False,
    ) -> None:
        needed = ("encode", "decode", "log_likelihood", "posterior", "likelihood", "latent_dim")
        require(parts.model, "model", "variational", *needed)
        require(parts.loss, "loss", "variational", "objective", "kl_weight")
        require_float32(parts, "variational")
        self.parts = parts
        self.model, self.loss, self.dataset = parts.model, parts.loss, parts.dataset
        self._check(pixelcnn_from_step, compile)
        self.optimizer = parts.make_optimizer(self.model.parameters())
        self.device, self.seed = parts.device, parts.seed
        self.importance_samples, self.importance_images = importance_samples, importance_images
        self.memory_mib, self.pixelcnn_from_step = memory_mib, pixelcnn_from_step
        self.protocol: dict[str, Any] = {"importance_samples": importance_samples, "kl": self.loss.kl}
        if importance_images is not None:
            self.protocol["importance_images"] = min(importance_images, len(self.dataset.test))
        # Of large networks, as many images at a time as memory holds; the noise depends on the number.
        self._batch = max(1, min(EVALUATION_BATCH, int(memory_mib * 2**20 / 4 / self.model.image_floats)))
        self._gradients = Gradients(
            self._objective, self.model.parameters(), compile_for=parts.batch_size if compile else None
        )
        self._latents, self._uniforms = self._drawn(SAMPLES, self.seed)  # the same at every stage
        self._samples: dict[str, Tensor] = {}
        self._bounds: dict[str, tuple[float, float]] = {}
        self._step = 0
        self._kl_weight = torch.zeros((), device=self.device)
        if pixelcnn_from_step:
            self.model.switch_pixelcnn(False)

    def _check(self, pixelcnn_from_step: int, compiled: bool) -> None:
        """Raise ConfigError for what does not belong together."""
        if self.dataset.binary and not self.model.likelihood.binary:
            raise ConfigError(
                f"a Gaussian likelihood needs grey images, and those of {self.dataset.name} are binary",
                "set model.likelihood=bernoulli, or dataset=mnist, or dataset=mnist5k dataset.binarized=false",
            )
        if self.model.likelihood.binary and not self.dataset.binary:
            raise ConfigError(
                f"a Bernoulli likelihood needs binary images, and those of {self.dataset.name} are grey",
                "choose a binarized data set, dataset=binmnist or dataset=mnist5k, or set model.likelihood=gaussian",
            )
        if self.loss.kl == "analytic" and not self.model.posterior.closed_form:
            raise ConfigError("the KL divergence of a posterior with a flow has no closed form", "set loss.kl=mc")
        if pixelcnn_from_step and getattr(self.model, "pixelcnn", None) is None:
            raise ConfigError(
                "pixelcnn_from_step is for a model with a PixelCNN",
                "set task.pixelcnn_from_step=0, or model=conv-vae with model.pixelcnn_channels",
            )
        if compiled and self.loss.samples > 1:
            raise ConfigError(
                "the gradient of the bound of several samples cannot be compiled",
                "set task.compile=false or loss.samples=1",
            )

    def elbo_terms(self, x: Tensor) -> ElboTerms:
        """Log-likelihood and KL term per image, with one posterior sample; x is [B, C, H, W] in [0, 1]."""
        code = self.model.encode(x)
        sample = self.model.posterior(code, sample_gaussian(code.mu, code.logvar))
        log_likelihood = self.model.log_likelihood(sample.z, x, self.model.from_pixels(x))
        posterior = self.model.posterior
        kl = posterior.kl(code) if self.loss.kl == "analytic" else posterior.sampled_kl(code, sample)
        return ElboTerms(log_likelihood, kl)

    def _objective(self, x: Tensor, kl_weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.loss.samples > 1:
            return self._importance_weighted(x)
        terms = self.elbo_terms(x)
        objective = self.loss.objective(terms, self.model.latent_dim, kl_weight)
        elbo, kl = terms.log_likelihood.mean() - terms.kl.mean(), terms.kl.mean()
        return -objective, {"train/elbo": elbo, "train/kl": kl, "train/objective": objective}

    def _importance_weighted(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        count = self.loss.samples
        code = self.model.encode(x).repeat(count)
        sample = self.model.posterior(code, sample_gaussian(code.mu, code.logvar))
        from_pixels = self.model.from_pixels(x)
        if from_pixels is not None:
            from_pixels = from_pixels.repeat_interleave(count, 0)
        log_likelihood = self.model.log_likelihood(sample.z, x.repeat_interleave(count, 0), from_pixels)
        fixed = code._replace(mu=code.mu.detach(), logvar=code.logvar.detach())
        kl = self.model.posterior.sampled_kl(fixed, sample).sum(1)
        log_weights = log_likelihood - kl
        bound, surrogate = doubly_reparameterised(log_weights.view(-1, count), sample.base)
        values = {"train/elbo": log_weights.mean(), "train/kl": kl.mean(), "train/objective": bound.mean()}
        return -surrogate, values

    def prepare_step(self) -> None:
        if self._step == self.pixelcnn_from_step > 0:
            self.model.switch_pixelcnn(True)
        self._kl_weight.fill_(self.loss.kl_weight(self._step))
        self._step += 1

    def training_step(self, batch: Tensor) -> dict[str, Tensor]:
        values = self._gradients(self.dataset.to_float(batch), self._kl_weight)
        self.optimizer.step()
        return values

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """`elbo`, its parts `reconstruction` and `kl`, `active_units`; nats per image.

        On the test split, `log_likelihood` with its standard error, and of binary images in bits per dimension, too.
        """
        images = self.dataset.split(split)
        with isolated_rng(self.seed, self.device):
            elbo, kl = self._elbo_and_kl(images)
            values = {f"{split}/elbo": elbo, f"{split}/kl": kl, f"{split}/reconstruction": elbo + kl}
            if split == "test":
                values |= self._log_likelihood(images[: self.importance_images])
            use = latent_use(self.model, images, self.dataset.to_float, self._batch)
            values[f"{split}/active_units"] = use.active_units
        return values

    def _elbo_and_kl(self, images: Tensor) -> tuple[float, float]:
        rows = []
        for batch in images.split(self._batch):
            terms = self.elbo_terms(self.dataset.to_float(batch))
            rows.append(double(torch.stack([terms.elbo, terms.kl])).sum(1))
        elbo, kl = (torch.stack(rows).sum(0) / len(images)).tolist()
        return elbo, kl

    def _importance_sampled(self, images: Tensor, samples: int) -> Tensor:
        return importance_sampled_log_likelihood(self.model, images, self.dataset.to_float, samples, self.memory_mib)

    def _log_likelihood(self, images: Tensor) -> dict[str, float]:
        per_image = self._importance_sampled(images, self.importance_samples)
        mean = per_image.mean().item()
        values = {
            "test/log_likelihood": mean,
            "test/log_likelihood_standard_error": (per_image.std() / math.sqrt(len(per_image))).item(),
        }
        if self.dataset.binary:  # bits of a density of grey values would be compared with those of a probability
            values["test/bits_per_dim"] = -mean / math.log(2) / math.prod(self.dataset.shape)
        return values

    def notes(self, final: Mapping[str, float]) -> list[str]:
        kl, active = final.get("test/kl", math.inf), final.get("test/active_units", 0)
        if kl >= COLLAPSED:
            return []
        units = f"{active:.0f} of {self.model.latent_dim} latents"
        return [f"posterior collapse: a KL term of {kl:.2g} nats; {units} are active"]

    @torch.no_grad()
    def sample(self, count: int, seed: int, progress: Callable[[float], None]) -> Tensor:
        """[count, C, H, W] in [0, 1], of latents of the prior: mean images, or a PixelVAE's samples.

        `progress` is told the share that is done after every row of a PixelVAE's pixels.
        """
        latents, uniforms = self._drawn(count, seed)
        height = self.dataset.shape[1]
        return self.model.images(latents, uniforms, lambda row: progress(row / height)).cpu()

    def _drawn(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Latents [count, L] of the prior, and uniform numbers [count, C, H, W] for pixels."""
        with isolated_rng(seed, self.device):
            latents = torch.randn(count, self.model.latent_dim, device=self.device)
            return latents, torch.rand(count, *self.dataset.shape, device=self.device)

    def _draw_samples(self) -> Tensor:
        return self._images(self._latents)

    @torch.no_grad()
    def _images(self, latents: Tensor) -> Tensor:
        return self.model.images(latents, self._uniforms[: len(latents)]).cpu()

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents).sigmoid().cpu()

    def figures(self, stage: Stage, record: Record) -> dict[str, Figure]:
        title = f"{record.title}, {STAGE_TITLES[stage]}"
        if stage != "start":  # hundreds of nats lower, where no gap of the others would be seen
            self._bounds[stage] = self._panel_bounds()
        side = math.isqrt(SAMPLES)
        kind = "decoder means for prior samples" if getattr(self.model, "pixelcnn", None) is None else "samples"
        figures = {
            "samples": image_grid(self.samples(stage), side, side, f"{title}: {kind}"),
            "reconstructions": self._reconstructions(f"{title}: validation images"),
        }
        if self.model.latent_dim == 2:
            figures["manifold"] = self._manifold(f"{title}: latent manifold")
        if stage == "end":
            figures |= self._final_figures(record, kind)
        return figures

    def _final_figures(self, record: Record, kind: str) -> dict[str, Figure]:
        panels = {STAGE_TITLES[key]: images for key, images in self._samples.items()}
        with isolated_rng(self.seed, self.device):
            use = latent_use(self.model, self.dataset.valid, self.dataset.to_float, self._batch)
        return {
            "stages": stages(panels, f"{record.title}: {kind}, from the same latents"),
            "elbo": learning_curves(
                record.curve("train/elbo"),
                record.curve("valid/elbo"),
                record.references("valid/elbo"),
                record.title,
            ),
            "traversals": self._traversals(use.variance, f"{record.title}: one image's latents, one at a time"),
            "latents": latent_bars(use.variance, use.kl, ACTIVE, f"{record.title}: what the latents carry"),
            "collapse": collapse_panel(
                record.curve("valid/kl"),
                record.curve("valid/active_units"),
                self.model.latent_dim,
                {STAGE_TITLES[key]: pair for key, pair in self._bounds.items()},
                record.title,
            ),
        }

    @torch.no_grad()
    def _panel_bounds(self) -> tuple[float, float]:
        """ELBO and importance-sampled log-likelihood of the same validation images."""
        images = self.dataset.valid[:PANEL_IMAGES]
        with isolated_rng(self.seed, self.device):
            elbo, _ = self._elbo_and_kl(images)
            return elbo, self._importance_sampled(images, PANEL_SAMPLES).mean().item()

    @torch.no_grad()
    def _reconstructions(self, title: str) -> Figure:
        originals = self.dataset.to_float(self.dataset.valid[:20])
        with isolated_rng(self.seed, self.device):
            mean, _ = self.model.posterior.means(self.model.encode(originals))
        return reconstructions(originals.cpu(), self._images(mean), title)

    @torch.no_grad()
    def _traversals(self, variance: Tensor, title: str) -> Figure:
        """The first validation image with one of its most active latents at a time set to values of the prior."""
        latents = variance.argsort(descending=True)[:TRAVERSED]
        values = torch.tensor(TRAVERSAL, device=self.device)
        with isolated_rng(self.seed, self.device):
            mean, _ = self.model.posterior.means(self.model.encode(self.dataset.to_float(self.dataset.valid[:1])))
        z = mean.expand(len(latents), len(values), -1).clone()
        for row, latent in enumerate(latents.tolist()):
            z[row, :, latent] = values
        pixels = self._uniforms[:1].expand(len(latents) * len(values), *self.dataset.shape)
        images = self.model.images(z.flatten(0, 1), pixels).cpu()
        names = [f"z{latent + 1} (var {variance[latent]:.2g})" for latent in latents.tolist()]
        return traversals(images, names, TRAVERSAL, title)

    def _manifold(self, title: str) -> Figure:
        """The decoder over a grid of standard-normal quantiles (Kingma & Welling 2014, figure 4)."""
        quantiles = torch.tensor(manifold_quantiles(MANIFOLD_SIDE), dtype=torch.float32, device=self.device)
        z2, z1 = torch.meshgrid(quantiles, quantiles, indexing="ij")
        return latent_manifold(self._decode(torch.stack([z1, z2], dim=-1).view(-1, 2)), MANIFOLD_SIDE, title)

    def state_dict(self) -> dict[str, Any]:
        # Another device would draw other numbers.
        fixed = {"latents": self._latents, "uniforms": self._uniforms}
        return super().state_dict() | fixed | {"bounds": dict(self._bounds), "step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._latents, self._uniforms = (state[name].to(self.device) for name in ("latents", "uniforms"))
        self._bounds = dict(state["bounds"])
        self._step = state["step"]
