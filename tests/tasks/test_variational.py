from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from genbench import cli
from genbench.engine.batches import Batches
from genbench.functional import log_likelihood_bernoulli_logits, log_likelihood_normal
from genbench.losses.elbo import ELBO
from genbench.metrics.importance import importance_sampled_log_likelihood
from genbench.models.vae import MlpVae
from genbench.run import build_task


def small_vae(latent_dim: int = 2, pixels: int = 6) -> MlpVae:
    torch.manual_seed(0)
    model = MlpVae((1, 1, pixels), latent_dim=latent_dim, width=8, depth=1).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2
    return model


def binary_images(count: int, pixels: int = 6) -> Tensor:
    return (torch.rand(count, 1, 1, pixels, generator=torch.Generator().manual_seed(1)) < 0.4).to(torch.uint8)


def quadrature(model: MlpVae, images: Tensor) -> Tensor:
    """log ∫ p(x|z) N(z; 0, I) dz on a grid over the plane."""
    axis = torch.linspace(-8, 8, 401, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    log_prior = log_likelihood_normal(torch.zeros_like(z), torch.zeros_like(z), z)
    logits = model.decode(z)
    cell = 2 * math.log((axis[1] - axis[0]).item())
    return (
        torch.stack(
            [
                torch.logsumexp(log_likelihood_bernoulli_logits(logits, x.double().expand_as(logits)) + log_prior, 0)
                for x in images
            ]
        )
        + cell
    )


@torch.no_grad()
def test_importance_sampling_agrees_with_quadrature() -> None:
    model, images = small_vae(), binary_images(8)
    truth = quadrature(model, images)
    torch.manual_seed(0)
    estimates = torch.stack(
        [importance_sampled_log_likelihood(model, images, Tensor.double, 1000) for _ in range(20)]
    )
    error = estimates.mean(0) - truth
    assert (error.abs() < 3.5 * estimates.std(0) / math.sqrt(20) + 1e-4).all()


@torch.no_grad()
def test_the_value_does_not_depend_on_the_chunks() -> None:
    model, images = small_vae(), binary_images(7)
    values = []
    for memory_mib in (256, 0.02, 0.003, 1e-6):  # all at once, several images, less than one image, one row
        torch.manual_seed(5)
        values.append(importance_sampled_log_likelihood(model, images, Tensor.double, 37, memory_mib))
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_bounds_are_ordered() -> None:
    """ELBO ≤ importance-weighted bound, growing with K (Burda et al. 2016, theorem 1)."""
    model, images = small_vae(), binary_images(8)
    torch.manual_seed(0)
    repeated = images.repeat(400, 1, 1, 1)
    bounds = [importance_sampled_log_likelihood(model, repeated, Tensor.double, k).mean() for k in (1, 5, 50)]
    assert bounds[0] < bounds[1] < bounds[2] < quadrature(model, images).mean() + 1e-3
    mu, logvar = model.encode(repeated.double())
    z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
    log_likelihood = log_likelihood_bernoulli_logits(model.decode(z), repeated.double())
    elbo = ELBO().terms(log_likelihood, mu, logvar, z).elbo
    standard_error = elbo.std() / math.sqrt(len(elbo))
    assert abs(elbo.mean() - bounds[0]) < 5 * standard_error  # K = 1 is the ELBO in expectation


@torch.no_grad()
def test_analytic_and_monte_carlo_kl_agree() -> None:
    torch.manual_seed(0)
    mu, logvar = torch.randn(1, 5).double(), torch.randn(1, 5).double()
    z = mu + (0.5 * logvar).exp() * torch.randn(200_000, 5).double()
    mu, logvar = mu.expand_as(z), logvar.expand_as(z)
    zero = torch.zeros(len(z)).double()
    analytic = ELBO(kl="analytic").terms(zero, mu, logvar, z).kl
    sampled = ELBO(kl="mc").terms(zero, mu, logvar, z).kl
    assert abs(sampled.mean() - analytic[0]) < 3 * sampled.std() / math.sqrt(len(z))


def test_logit_offset_makes_an_untrained_decoder_say_black() -> None:
    model = MlpVae((1, 28, 28), latent_dim=3, width=10, logit_offset=-5.0)
    assert model.decode(torch.zeros(1, 3)).mean().item() == pytest.approx(-5, abs=0.2)


def test_compiled_and_eager_training_agree(data_root: Path, fresh_compiler: None) -> None:
    """With the same noise, the same losses; the last, smaller batch included."""
    losses = []
    for compiled in ("false", "true"):
        with initialize_config_dir(str(cli.CONFIG_DIRECTORY), version_base="1.3"):
            words = ["experiment=vae-mnist5k", f"data_root={data_root}", f"task.compile={compiled}", "device=cpu"]
            words.append("trainer.batch_size=300")
            task = build_task(cli.validate(compose("train", overrides=words)), torch.device("cpu"))
        batches = Batches(task.dataset.train, 300, seed=0)  # 13 full batches and one of 100
        losses.append(torch.stack([task.training_step(batches.next())["train/elbo"] for _ in range(20)]))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-3)
