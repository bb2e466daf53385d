"""Importance sampling: marginal likelihoods of latent-variable models, and normalizers of energies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from genbench.engine.device import double
from genbench.functional import log_likelihood_normal, log_mean_exp

__all__ = ["LatentVariableModel", "Normalizer", "importance_sampled_log_likelihood", "log_normalizer"]


class LatentVariableModel(Protocol):
    """The interface required of a model; see genbench.models.vae.Vae."""

    posterior: Any
    image_floats: int
    latent_floats: int

    def encode(self, x: Tensor) -> Any: ...
    def from_pixels(self, x: Tensor) -> Tensor | None: ...
    def log_likelihood(self, z: Tensor, x: Tensor, from_pixels: Tensor | None) -> Tensor: ...


@torch.no_grad()
def importance_sampled_log_likelihood(
    model: LatentVariableModel,
    images: Tensor,
    to_float: Callable[[Tensor], Tensor],
    num_samples: int,
    memory_mib: float = 256,
) -> Tensor:
    """log p(x) ≈ log 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x), z_k ~ q(z|x), per image: [N], float64, in nats.

    Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), eq. 8; a lower bound in expectation. Standard-normal prior.
    Each image goes once through the encoder and a PixelVAE's PixelCNN; its K samples are decoded in chunks of about
    `memory_mib`. Noise is drawn image by image, so the value does not depend on the chunks.
    """
    floats = memory_mib * 2**20 / 4
    rows = max(1, int(floats / model.latent_floats))
    images_per_chunk = max(1, min(rows // num_samples, int(floats / model.image_floats)))
    results = [_chunk(model, to_float(chunk), num_samples, rows) for chunk in images.split(images_per_chunk)]
    return torch.cat(results)


def _chunk(model: LatentVariableModel, x: Tensor, num_samples: int, rows: int) -> Tensor:
    encoded, from_pixels = model.encode(x), model.from_pixels(x)
    code = encoded.repeat(num_samples)
    size = code.mu.shape[1]
    noise = torch.cat([torch.randn(num_samples, size, dtype=x.dtype, device=x.device) for _ in x])
    sample = model.posterior(code, code.mu + (0.5 * code.logvar).exp() * noise)  # [B · K, L]
    zeros = torch.zeros_like(sample.z)
    log_ratio = log_likelihood_normal(zeros, zeros, sample.z) - model.posterior.log_prob(code, sample)
    owners = torch.arange(len(x), device=x.device).repeat_interleave(num_samples)
    log_likelihood = torch.cat(
        [
            model.log_likelihood(part, x[owner], None if from_pixels is None else from_pixels[owner])
            for part, owner in zip(sample.z.split(rows), owners.split(rows), strict=True)
        ]
    )
    return log_mean_exp(double(log_likelihood + log_ratio).view(len(x), num_samples))


class Normalizer(NamedTuple):
    """log Z with its standard error, and the effective sample size as a share of the samples."""

    log_z: float
    standard_error: float
    effective_sample_size: float


def log_normalizer(log_weights: Tensor) -> Normalizer:
    """log Z = log 1/n Σ w for w = p̃(x)/q(x), x ~ q; ESS = (Σ w)² / n Σ w² (Kong 1992).

    If q misses a mode, both the estimate and its standard error are too small.

    Args:
        log_weights: [n ≥ 2], log w.
    """
    log_weights = double(log_weights)
    log_z = log_mean_exp(log_weights[None])[0]
    relative = (log_weights - log_z).exp()  # of mean 1
    error = relative.std() / math.sqrt(len(relative))  # of log Z, by the delta method
    return Normalizer(log_z.item(), error.item(), (1 / relative.square().mean()).item())
