"""Active latents of a posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genbench.engine.batches import in_chunks
from genbench.engine.device import double

__all__ = ["ACTIVE", "LatentUse", "latent_use"]

ACTIVE = 0.01
"""A latent whose posterior mean varies more than this from image to image is active (Burda et al. 2016, 5.2)."""


class LatentUse(NamedTuple):
    """Per latent, [L]: Var_x E[z_d|x], and KL_d in nats, averaged over images, if it has a closed form."""

    variance: Tensor
    kl: Tensor | None

    @property
    def active_units(self) -> int:
        return int((self.variance > ACTIVE).sum())


@torch.no_grad()
def latent_use(
    model: Any, images: Tensor, to_float: Callable[[Tensor], Tensor], batch: int, *labels: Tensor
) -> LatentUse:
    """Statistics over all images, at least two, computed `batch` images at a time; with labels [N], given them.

    If E[z|x] is estimated from samples, the variance is the covariance over x of two independent estimates: for a
    latent that the encoder ignores its expectation is 0, whatever the number of samples.
    """
    firsts, seconds, divergences = [], [], []
    for part, *own in in_chunks(batch, images, *labels):
        code = model.encode(to_float(part), *own)
        first, second = model.posterior.means(code)
        firsts.append(double(first))
        seconds.append(double(second))
        if model.posterior.closed_form:
            divergences.append(double(model.posterior.kl(code)))
    a, b = torch.cat(firsts), torch.cat(seconds)
    variance = ((a - a.mean(0)) * (b - b.mean(0))).sum(0) / (len(a) - 1)
    return LatentUse(variance.cpu(), torch.cat(divergences).mean(0).cpu() if divergences else None)
