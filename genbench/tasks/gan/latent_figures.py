"""Pictures of what a generator does with its latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genbench.figures.walks import interpolations, latent_walk, perturbations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from genbench.metrics.classifier import Classifier

__all__ = ["PAIRS", "WALK_CANDIDATES", "interpolated", "perturbed", "walk"]

WALK_STEPS = 7
WALK_CANDIDATES = 100  # latents among which two different classes are looked for
PERTURBED = 10  # latent dimensions that are shown
OFFSETS = (-4.0, -2.0, 0.0, 2.0, 4.0)  # in standard deviations of the prior
PAIRS = 3
ALPHAS = tuple(k / 10 for k in range(11))

Generate = Callable[[Tensor], Tensor]
"""Latents [N, L] → images [N, C, H, W] in [0, 1]."""


def walk(generate: Generate, latents: Tensor, classifier: Classifier | None, title: str) -> Figure:
    """Nine images between two of the latents; with a classifier, between two different classes it is sure of."""
    first, last, labels = 0, 1, None
    if classifier is not None:
        confidence, found = classifier.probabilities(generate(latents)).max(1)
        first = int(confidence.argmax())
        last = int(confidence.where(found != found[first], -1).argmax())
        if found[first] == found[last]:
            last = int(first == 0)  # any other latent
        else:
            labels = (f"a {found[first]}", f"a {found[last]}")
    alphas = torch.linspace(0, 1, WALK_STEPS + 2, device=latents.device).unsqueeze(1)
    between = torch.lerp(latents[first], latents[last], alphas)
    return latent_walk(generate(between).cpu(), title, labels)


def perturbed(generate: Generate, latent: Tensor, title: str) -> Figure:
    """One latent [L], moved along each dimension in turn (report 001, problem 3)."""
    axes = torch.eye(len(latent), device=latent.device)
    ends = generate(torch.cat([latent + OFFSETS[0] * axes, latent + OFFSETS[-1] * axes]))
    low, high = ends.tensor_split(2)
    changes = (high - low).abs().flatten(1).mean(1).cpu()
    chosen = changes.argsort(descending=True)[:PERTURBED].tolist()
    points = torch.stack([latent + offset * axes[k] for k in chosen for offset in OFFSETS])
    images = generate(points).cpu().unflatten(0, (len(chosen), len(OFFSETS)))
    return perturbations(images, changes[chosen].tolist(), [k + 1 for k in chosen], OFFSETS, title)


def interpolated(generate: Generate, latents: Tensor, title: str) -> Figure:
    """g((1 − α) z0 + α z1) beside (1 − α) x0 + α x1, of PAIRS pairs of latents (report 001, problem 3)."""
    ends = latents.view(PAIRS, 2, -1)
    alphas = torch.tensor(ALPHAS, device=ends.device)
    between = torch.lerp(ends[:, :1], ends[:, 1:], alphas.view(1, -1, 1))
    latent = generate(between.flatten(0, 1)).cpu().unflatten(0, (PAIRS, len(ALPHAS)))
    pixel = torch.lerp(latent[:, :1], latent[:, -1:], alphas.cpu().view(1, -1, 1, 1, 1))
    return interpolations(latent, pixel, ALPHAS, title)
