"""VAEs with two latents, whose log p(x) a grid over the plane gives."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genbench.functional import log_likelihood_bernoulli_logits, log_likelihood_normal
from genbench.models.vae import ConvVae, MlpVae, Vae

__all__ = ["binary_images", "quadrature", "small_pixelvae", "small_vae"]


def small_vae(posterior: str = "normal", latent_dim: int = 2, pixels: int = 6) -> MlpVae:
    torch.manual_seed(0)
    options = {"latent_dim": latent_dim, "width": 8, "depth": 1, "posterior": posterior, "flow_steps": 3}
    model = MlpVae((1, 1, pixels), **options).double()
    with torch.no_grad():
        for parameter in (*model.encoder.parameters(), *model.decoder.parameters()):
            parameter *= 2
        if posterior != "normal":  # a proposal that covers the posterior
            for parameter in model.encoder[-1].parameters():
                parameter *= 0.2
            model.encoder[-1].bias[latent_dim:] += 1.5
    return model


def small_pixelvae(posterior: str = "normal") -> ConvVae:
    """Two latents, of images of 4 × 8."""
    torch.manual_seed(0)
    sizes = {"encoder_channels": 3, "encoder_blocks": 1, "decoder_channels": 3, "decoder_blocks": 1}
    model = ConvVae((1, 4, 8), pixelcnn_channels=3, pixelcnn_blocks=1, posterior=posterior, flow_steps=2, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
        for parameter in (*model.posterior.parameters(), *model.encoder.last.parameters()):
            parameter *= 0.1  # a proposal that covers the posterior
    return model.double()


def binary_images(count: int, pixels: int = 6) -> Tensor:
    return (torch.rand(count, 1, 1, pixels, generator=torch.Generator().manual_seed(1)) < 0.4).to(torch.uint8)


def quadrature(model: Vae, images: Tensor, points: int = 401) -> Tensor:
    """log ∫ p(x|z) N(z; 0, I) dz on a grid over the plane."""
    axis = torch.linspace(-8, 8, points, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    log_prior = log_likelihood_normal(torch.zeros_like(z), torch.zeros_like(z), z)
    decoded = model.decode(z)
    found = []
    for x in images.double():
        given = model.from_pixels(x[None])
        logits = decoded if given is None else decoded + given
        found.append(torch.logsumexp(log_likelihood_bernoulli_logits(logits, x.expand_as(logits)) + log_prior, 0))
    return torch.stack(found) + 2 * math.log((axis[1] - axis[0]).item())
