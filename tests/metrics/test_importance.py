from __future__ import annotations

import math

import pytest
import torch
from small_vaes import binary_images, quadrature, small_pixelvae, small_vae
from torch import Tensor, nn

from genbench.engine.measurement import mean_over
from genbench.functional import log_likelihood_bernoulli_logits, log_likelihood_normal, sample_gaussian
from genbench.metrics.importance import importance_sampled_log_likelihood, sampled_elbos
from genbench.metrics.latents import latent_use
from genbench.models.posterior import POSTERIORS
from genbench.models.vae import MlpVae, Vae


@torch.no_grad()
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_agrees_with_quadrature(posterior: str) -> None:
    model, images = small_vae(posterior), binary_images(8)
    truth = quadrature(model, images)
    torch.manual_seed(0)
    estimates = torch.stack(
        [importance_sampled_log_likelihood(model, images, Tensor.double, 1000).value for _ in range(20)]
    )
    error = estimates.mean(0) - truth
    assert (error.abs() < 3.5 * estimates.std(0) / math.sqrt(20) + 1e-4).all()


@torch.no_grad()
@pytest.mark.parametrize("posterior", ["normal", "iaf"])
def test_a_pixelvae_agrees_with_quadrature(posterior: str) -> None:
    model = small_pixelvae(posterior)
    images = binary_images(3, 32).view(3, 1, 4, 8)
    truth = quadrature(model, images, 101)
    assert model.latent_dim == 2 and truth.std() > 0.01
    torch.manual_seed(0)
    estimates = torch.stack(
        [importance_sampled_log_likelihood(model, images, Tensor.double, 1000).value for _ in range(20)]
    )
    error = estimates.mean(0) - truth
    assert (error.abs() < 3.5 * estimates.std(0) / math.sqrt(20) + 1e-4).all()


@torch.no_grad()
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_value_does_not_depend_on_the_chunks(posterior: str) -> None:
    model, images = small_vae(posterior), binary_images(7)
    values = []
    for memory_mib in (256, 0.02, 0.003, 1e-6):  # all at once, several images, less than one image, one row
        torch.manual_seed(5)
        found = importance_sampled_log_likelihood(model, images, Tensor.double, 37, memory_mib)
        values.append(torch.stack(found))
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("memory_mib", [256, 0.05, 0.01])
def test_every_image_meets_encoder_and_pixelcnn_once(memory_mib: float) -> None:
    model, images = small_pixelvae(), binary_images(9, 32).view(9, 1, 4, 8)
    assert model.pixelcnn is not None
    seen: dict[nn.Module, int] = {model.encoder: 0, model.pixelcnn: 0, model.decoder: 0}

    def count(module: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        seen[module] += len(inputs[0])

    for module in seen:
        module.register_forward_hook(count)
    importance_sampled_log_likelihood(model, images, Tensor.double, 5, memory_mib)
    assert list(seen.values()) == [9, 9, 45]


@torch.no_grad()
@pytest.mark.parametrize("posterior", ["normal", "planar"])
def test_bounds_are_ordered(posterior: str) -> None:
    """ELBO ≤ importance-weighted bound, growing with K (Burda et al. 2016, theorem 1); K = 1 is the ELBO."""
    model, images = small_vae(posterior), binary_images(8)
    repeated = images.repeat(400, 1, 1, 1)
    torch.manual_seed(0)
    bounds = [importance_sampled_log_likelihood(model, repeated, Tensor.double, k).value.mean() for k in (1, 5, 50)]
    assert bounds[0] < bounds[1] < bounds[2] < quadrature(model, images).mean() + 1e-3

    torch.manual_seed(0)
    noise = torch.cat([torch.randn(1, 2, dtype=torch.float64) for _ in repeated])
    code = model.encode(repeated.double())
    sample = model.posterior(code, code.mu + (0.5 * code.logvar).exp() * noise)
    elbo = model.log_likelihood(sample.z, repeated.double(), None) - model.posterior.sampled_kl(code, sample).sum(1)
    torch.manual_seed(0)
    single = importance_sampled_log_likelihood(model, repeated, Tensor.double, 1)
    torch.testing.assert_close(single.value, elbo, rtol=1e-12, atol=1e-12)
    assert single.variance.isnan().all()


def exact_elbo(model: Vae, images: Tensor, points: int = 201) -> Tensor:
    """∫ N(z; μ, σ²) (log p(x|z) + log p(z) − log N(z; μ, σ²)) dz on a grid around μ."""
    axis = torch.linspace(-8, 8, points, dtype=torch.float64)
    epsilon = torch.cartesian_prod(axis, axis)
    weight = torch.exp(log_likelihood_normal(torch.zeros_like(epsilon), torch.zeros_like(epsilon), epsilon))
    found = []
    for x in images.double():
        code = model.encode(x[None])
        z = code.mu + (0.5 * code.logvar).exp() * epsilon
        log_p = log_likelihood_bernoulli_logits(model.decode(z), x.expand(len(z), *x.shape))
        log_prior = log_likelihood_normal(torch.zeros_like(z), torch.zeros_like(z), z)
        log_q = log_likelihood_normal(code.mu.expand_as(z), code.logvar.expand_as(z), z)
        found.append((weight * (log_p + log_prior - log_q)).sum() * (axis[1] - axis[0]) ** 2)
    return torch.stack(found)


@torch.no_grad()
def test_the_sampled_bound_agrees_with_quadrature_within_its_error() -> None:
    model, images = small_vae(), binary_images(8)
    truth = exact_elbo(model, images)
    torch.manual_seed(0)
    # Twenty times in a row, which are as many estimates.
    estimates = sampled_elbos(model, images.repeat(20, 1, 1, 1), Tensor.double, 50)
    bounds = [next(estimates) for _ in range(100)]
    elbo = torch.cat([bound.elbo.view(20, 8) for bound in bounds])
    assert ((elbo.mean(0) - truth).abs() < 4 * elbo.std(0) / math.sqrt(2000)).all()
    kl = model.posterior.kl(model.encode(images.double())).sum(1)
    for bound in bounds[:3]:
        torch.testing.assert_close(bound.kl, kl.repeat(20), rtol=1e-12, atol=1e-12)
    few = [mean_over(part.mean(0), variances=part.var(0) / 4) for part in elbo.split(4)]
    told = torch.tensor([found.monte_carlo_error for found in few]).square().mean().sqrt()
    off = torch.tensor([found.value for found in few], dtype=torch.float64) - truth.mean()
    assert told == pytest.approx(off.square().mean().sqrt().item(), rel=0.1)


@torch.no_grad()
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_antithetic_pairs_have_the_mean_of_independent_samples(posterior: str) -> None:
    model, images = small_vae(posterior), binary_images(8)
    torch.manual_seed(0)
    estimates = sampled_elbos(model, images.repeat(100, 1, 1, 1), Tensor.double, 800)
    pairs = [next(estimates) for _ in range(30)]
    repeated = images.repeat_interleave(6000, 0)
    single = importance_sampled_log_likelihood(model, repeated, Tensor.double, 1).value.view(8, -1)  # log w
    elbo, kl = (torch.cat(rows).view(3000, 8) for rows in zip(*pairs, strict=True))
    error = (elbo.var(0) / 3000 + single.var(1) / 6000).sqrt()
    assert ((elbo.mean(0) - single.mean(1)).abs() < 4 * error).all()
    assert (elbo.var(0) < single.var(1)).all()
    assert (kl.var(0) > 0).all() == (posterior != "normal")
    code = model.encode(repeated.double())
    apart = model.posterior.sampled_kl(code, model.posterior(code, sample_gaussian(code.mu, code.logvar))).sum(1)
    apart = apart.view(8, -1)
    assert ((kl.mean(0) - apart.mean(1)).abs() < 4 * (kl.var(0) / 3000 + apart.var(1) / 6000).sqrt()).all()


@torch.no_grad()
@pytest.mark.parametrize("count", [2, 20, 200])
def test_the_variance_of_a_log_likelihood_is_that_of_others_with_other_noise(count: int) -> None:
    """Not below it, as by the delta method where few samples outweigh the others; at most twice as much."""
    model = small_vae()
    last = model.encoder[-1]
    assert isinstance(last, nn.Linear)
    last.bias[2:] -= 3  # a proposal that is too narrow
    images = binary_images(8)
    torch.manual_seed(0)
    found = [importance_sampled_log_likelihood(model, images, Tensor.double, count) for _ in range(400)]
    actual = torch.stack([one.value for one in found]).var(0).mean()
    told = torch.stack([one.variance for one in found]).mean()
    assert 0.9 < told / actual < 2.2


@pytest.mark.parametrize("posterior", ["normal", "iaf"])
def test_active_units_by_hand(posterior: str) -> None:
    """Of two latents, the first follows the image and the second does not."""
    torch.manual_seed(0)
    model = MlpVae((1, 1, 6), latent_dim=2, width=8, depth=1, posterior=posterior, flow_steps=1).double()
    with torch.no_grad():
        for parameter in model.posterior.parameters():
            parameter.normal_(0, 1e-3)
        last = model.encoder[-1]
        assert isinstance(last, nn.Linear)
        last.weight[1:] = 0
        last.weight[0] *= 3
        last.bias.zero_()
    images = binary_images(500)
    use = latent_use(model, images, Tensor.double, 128)
    variance = model.encode(images.double()).mu[:, 0].var().item()
    assert use.active_units == 1
    assert use.variance[0].item() == pytest.approx(variance, abs=1e-12 if posterior == "normal" else 0.2 * variance)
    assert abs(use.variance[1]) < 0.008
    if posterior == "normal":
        assert use.kl is not None
        assert use.kl[1] == 0
        assert use.kl[0].item() == pytest.approx(0.5 * model.encode(images.double()).mu[:, 0].square().mean().item())
    else:
        assert use.kl is None
