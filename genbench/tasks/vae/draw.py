"""Variational auto-encoders: trained and judged by bounds on the log-likelihood, and drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genbench.engine.device import isolated_rng
from genbench.engine.task import STAGE_TITLES, Record, Stage
from genbench.figures.grids import (
    image_grid,
    latent_manifold,
    manifold_quantiles,
    reconstructions,
    stages,
    traversals,
)
from genbench.figures.posteriors import collapse_panel, latent_bars
from genbench.metrics.latents import ACTIVE, latent_use
from genbench.registry import register
from genbench.tasks.vae.learn import SAMPLES
from genbench.tasks.vae.use import VaeUse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Variational"]

MANIFOLD_SIDE = 20
# Validation images, and samples for each of them, from which the picture of a bound beside what it bounds is drawn.
PANEL_IMAGES, PANEL_SAMPLES = 100, 100
TRAVERSED = 8  # latents that are shown
TRAVERSAL = (-3.0, -2.25, -1.5, -0.75, 0.0, 0.75, 1.5, 2.25, 3.0)  # in standard deviations of the prior


@register("task", "variational")
class Variational(VaeUse):
    """A VAE of any posterior and likelihood, with a standard-normal prior.

    `importance_samples` K belongs to the final test log-likelihood: K posterior samples per image; of the first
    `importance_images` alone, if given. As many images are evaluated at a time as need about `memory_mib`.
    The first `annealed_images` are judged by annealed importance sampling, too, which takes much longer and comes
    nearer: by `annealing_chains` chains of `annealing_steps` temperatures each; null: none.
    `pixelcnn_from_step` is the update with which a PixelVAE's PixelCNN joins in: until then the decoder learns alone.
    `classes` has a classifier, trained on the real images, count how many samples of a class-conditional VAE are of
    the class asked for.
    `compile` runs the training objective and its gradients through torch.compile: faster steps after a warm-up of
    several seconds; its noise differs from the eager one.
    """

    def _draw_samples(self) -> Tensor:
        return self._images(self._latents, *self._labels)

    @torch.no_grad()
    def _images(self, latents: Tensor, *labels: Tensor) -> Tensor:
        images: Tensor = self.model.images(latents, self._uniforms[: len(latents)], *labels)
        return images.cpu()

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
            images, *labels = self.rows("valid")
            use = latent_use(self.model, images, self.dataset.to_float, self._judged_batch, *labels)
        return {
            **self.classes.figures(self, record.title),
            "stages": stages(panels, f"{record.title}: {kind}, from the same latents"),
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
        images, *labels = self.rows("valid", PANEL_IMAGES)
        with isolated_rng(self.seed, self.device):
            bounds = self._bounds_of(images, PANEL_SAMPLES // 2, *labels)
            log_likelihood = self._importance_sampled(images, PANEL_SAMPLES, *labels).value
        return torch.stack([bound.elbo for bound in bounds]).mean().item(), log_likelihood.mean().item()

    @torch.no_grad()
    def _reconstructions(self, title: str) -> Figure:
        images, *labels = self.rows("valid", 20)
        originals = self.dataset.to_float(images)
        return reconstructions(originals.cpu(), self._images(self.means(originals, *labels), *labels), title)

    @torch.no_grad()
    def _traversals(self, variance: Tensor, title: str) -> Figure:
        """The first validation image with one of its most active latents at a time set to values of the prior."""
        latents = variance.argsort(descending=True)[:TRAVERSED]
        values = torch.tensor(TRAVERSAL, device=self.device)
        image, *label = self.rows("valid", 1)
        with isolated_rng(self.seed, self.device):
            mean, _ = self.model.posterior.means(self.model.encode(self.dataset.to_float(image), *label))
        z = mean.expand(len(latents), len(values), -1).clone()
        for row, latent in enumerate(latents.tolist()):
            z[row, :, latent] = values
        pixels = self._uniforms[:1].expand(len(latents) * len(values), *self.dataset.shape)
        images = self.model.images(z.flatten(0, 1), pixels, *(each.expand(len(pixels)) for each in label)).cpu()
        names = [f"z{latent + 1} (var {variance[latent]:.2g})" for latent in latents.tolist()]
        return traversals(images, names, TRAVERSAL, title)

    def _manifold(self, title: str) -> Figure:
        """The decoder over a grid of standard-normal quantiles (Kingma & Welling 2014, figure 4); a class-conditional
        one with the class of the first validation image."""
        quantiles = torch.tensor(manifold_quantiles(MANIFOLD_SIDE), dtype=torch.float32, device=self.device)
        z2, z1 = torch.meshgrid(quantiles, quantiles, indexing="ij")
        z = torch.stack([z1, z2], dim=-1).view(-1, 2)
        label = next((int(each[0]) for each in self.classes.of("valid")), None)
        title = title if label is None else f"{title}, class {label}"
        return latent_manifold(self.decode(z, label), MANIFOLD_SIDE, title)
