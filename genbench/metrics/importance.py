"""Sampled estimates: bounds and likelihoods of latent-variable models, and normalizers of energies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from genbench.engine.batches import in_chunks
from genbench.engine.device import double, working_mib
from genbench.functional import log_mean_exp, sample_gaussian

__all__ = [
    "Bound",
    "LatentVariableModel",
    "LogLikelihood",
    "Normalizer",
    "importance_sampled_log_likelihood",
    "log_mean_weight",
    "log_normalizer",
    "sampled_elbos",
]


class LatentVariableModel(Protocol):
    """The interface required of a model; see genbench.models.vae.Vae. A class-conditional one is given labels [B],
    and the estimates are of log p(x|y)."""

    posterior: Any
    image_floats: int
    latent_floats: int

    def encode(self, x: Tensor, *labels: Tensor) -> Any: ...
    def from_pixels(self, x: Tensor) -> Tensor | None: ...
    def log_likelihood(self, z: Tensor, x: Tensor, from_pixels: Tensor | None, *labels: Tensor) -> Tensor: ...


class Bound(NamedTuple):
    """Per image, in nats and float64: estimates of the ELBO and of its KL term, [N]."""

    elbo: Tensor
    kl: Tensor


@torch.no_grad()
def sampled_elbos(
    model: LatentVariableModel, images: Tensor, to_float: Callable[[Tensor], Tensor], batch: int, *labels: Tensor
) -> Iterator[Bound]:
    """Without end, independent estimates of E log w and of KL(q(z|x) ‖ N(0, I)), where z ~ q(z|x) and
    w = p(x|z) p(z) / q(z|x).

    Each is the mean over two samples z₀ = μ ± σε: whatever is odd in ε cancels within such an antithetic pair
    (Hammersley & Morton 1956). As q comes near p(z|x), log w comes near log p(x), a constant, while log p(x|z) − KL
    keeps the noise of the decoder. The KL term is exact where it has a closed form.

    Images are taken `batch` at a time, and each goes once through the encoder and a PixelVAE's PixelCNN.
    """
    encoded = []
    for stored, *own in in_chunks(batch, images, *labels):
        x = to_float(stored)
        encoded.append((x, model.encode(x, *own), model.from_pixels(x), *own))
    while True:
        pairs = [_antithetic_pair(model, *parts) for parts in encoded]
        yield Bound(*(torch.cat(rows) for rows in zip(*pairs, strict=True)))


def _antithetic_pair(
    model: LatentVariableModel, x: Tensor, code: Any, from_pixels: Tensor | None, *labels: Tensor
) -> Bound:
    base = sample_gaussian(code.mu, code.logvar)
    pair = [model.posterior(code, z0) for z0 in (base, 2 * code.mu - base)]
    log_p = [double(model.log_likelihood(sample.z, x, from_pixels, *labels)) for sample in pair]
    sampled_kl = torch.stack([double(model.posterior.sampled_kl(code, sample).sum(1)) for sample in pair]).mean(0)
    exact = model.posterior.closed_form
    kl = double(model.posterior.kl(code).sum(1)) if exact else sampled_kl
    return Bound(torch.stack(log_p).mean(0) - sampled_kl, kl)


class LogLikelihood(NamedTuple):
    """Per image, in nats and float64: an estimate of log p(x) and its variance by sampling, [N]."""

    value: Tensor
    variance: Tensor


@torch.no_grad()
def importance_sampled_log_likelihood(
    model: LatentVariableModel,
    images: Tensor,
    to_float: Callable[[Tensor], Tensor],
    num_samples: int,
    memory_mib: float = 256,
    *labels: Tensor,
) -> LogLikelihood:
    """log p(x) ≈ log 1/K Σ_k w_k,   w_k = p(x|z_k) p(z_k) / q(z_k|x),   z_k ~ q(z|x)

    Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), eq. 8; a lower bound in expectation. Standard-normal prior.
    Each image goes once through the encoder and a PixelVAE's PixelCNN; its K samples are decoded in chunks of at
    most about `memory_mib`. Noise is drawn image by image, so the value does not depend on the chunks.

    The variance says how far the value moves with other samples, not how far it lies below log p(x).
    """
    floats = working_mib(images.device, memory_mib) * 2**20 / 4
    rows = max(1, int(floats / model.latent_floats))
    images_per_chunk = max(1, min(rows // num_samples, int(floats / model.image_floats)))
    chunks = in_chunks(images_per_chunk, images, *labels)
    results = [_chunk(model, to_float(stored), num_samples, rows, *own) for stored, *own in chunks]
    return LogLikelihood(*(torch.cat(rows) for rows in zip(*results, strict=True)))


def _chunk(model: LatentVariableModel, x: Tensor, num_samples: int, rows: int, *labels: Tensor) -> LogLikelihood:
    encoded, from_pixels = model.encode(x, *labels), model.from_pixels(x)
    code = encoded.repeat(num_samples)
    size = code.mu.shape[1]
    noise = torch.cat([torch.randn(num_samples, size, dtype=x.dtype, device=x.device) for _ in x])
    sample = model.posterior(code, code.mu + (0.5 * code.logvar).exp() * noise)  # [B · K, L]
    log_ratio = model.posterior.log_ratio(code, sample)
    owners = torch.arange(len(x), device=x.device).repeat_interleave(num_samples)
    log_likelihood = torch.cat(
        [
            model.log_likelihood(
                part,
                x[owner],
                None if from_pixels is None else from_pixels[owner],
                *(each[owner] for each in labels),
            )
            for part, owner in zip(sample.z.split(rows), owners.split(rows), strict=True)
        ]
    )
    return log_mean_weight(double(log_likelihood + log_ratio).view(len(x), num_samples))


def log_mean_weight(log_weights: Tensor) -> LogLikelihood:
    """log 1/K Σ_k w_k of rows [B, K] in float64.

    The variance is that of half as many weights, from the difference between both halves: with K ≫ 1 that is up to
    twice as much. The delta method would be far too low where few weights outweigh the others. Of K = 1 it is NaN.
    """
    half = log_weights.shape[1] // 2
    variance = torch.full_like(log_weights[:, 0], math.nan)
    if half:
        first, second = (log_mean_exp(log_weights[:, k * half : (k + 1) * half]) for k in range(2))
        variance = (first - second).square() / 2
    return LogLikelihood(log_mean_exp(log_weights), variance)


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
