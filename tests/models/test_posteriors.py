from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from genbench.errors import ConfigError
from genbench.functional import sample_gaussian
from genbench.models.likelihood import Gaussian
from genbench.models.posterior import POSTERIORS, Code, FlowPosterior, NormalPosterior, make_posterior
from genbench.models.vae import ConvVae, MlpVae

LATENTS, CONTEXT = 4, 6


def make(kind: str, spread: float = 0.3) -> NormalPosterior:
    torch.manual_seed(1)
    posterior = make_posterior(kind, LATENTS, 3, CONTEXT).double()
    with torch.no_grad():
        for parameter in posterior.parameters():
            parameter.normal_(0, spread / math.sqrt(parameter.shape[-1]))
    return posterior


def make_code(count: int = 5) -> Code:
    generator = torch.Generator().manual_seed(2)
    sizes = (LATENTS, LATENTS, CONTEXT)
    return Code(*(torch.randn(count, size, generator=generator, dtype=torch.float64) for size in sizes))


@pytest.mark.parametrize("kind", POSTERIORS)
def test_log_prob_against_the_jacobian(kind: str) -> None:
    """log q(z|x) = log N(ε; 0, I) − log |det ∂z/∂ε|, by autograd, of the whole way from ε to z."""
    posterior, code = make(kind), make_code()
    noise = torch.randn(5, LATENTS, dtype=torch.float64)
    sample = posterior(code, code.mu + (0.5 * code.logvar).exp() * noise)
    found = posterior.log_prob(code, sample)
    for i in range(5):
        one = Code(*(part[i : i + 1] for part in code if part is not None))

        def to_z(e: Tensor, one: Code = one) -> Tensor:
            return posterior(one, one.mu + (0.5 * one.logvar).exp() * e[None]).z[0]

        jacobian = torch.autograd.functional.jacobian(to_z, noise[i])
        truth = Normal(0.0, 1.0).log_prob(noise[i]).sum() - torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(found[i], truth, rtol=1e-11, atol=1e-11)


def test_the_order_is_reversed_between_iaf_steps() -> None:
    """So two steps together have a full Jacobian, where one has a triangular one; the context reaches all."""
    posterior, code = make("iaf"), make_code(1)
    jacobian = torch.autograd.functional.jacobian(lambda base: posterior(code, base).z, code.mu)[0, :, 0]
    assert (jacobian != 0).all()
    assert code.context is not None
    by_context = torch.autograd.functional.jacobian(
        lambda context: posterior(code._replace(context=context), code.mu).z, code.context
    )
    assert (by_context.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("kind", ["planar", "iaf"])
def test_flows_start_near_the_identity(kind: str) -> None:
    torch.manual_seed(0)
    base = torch.randn(200, 20)
    z = make_posterior(kind, 20, 8, 30)(Code(base, base, torch.randn(200, 30)), base).z
    if kind == "iaf":
        z = z.flip(1)  # seven reversals
    assert (z - base).abs().mean() < {"planar": 0.05, "iaf": 0.3}[kind]


@pytest.mark.parametrize("kind", ["planar", "iaf"])
def test_samples_stay_finite_when_the_weights_are_not_those_of_the_start(kind: str) -> None:
    """Eight steps of report 003's size; an unbounded scale overflows for half of these weights."""
    for seed in range(8):
        torch.manual_seed(seed)
        posterior = make_posterior(kind, 49, 8, 4 * 49)
        with torch.no_grad():
            for parameter in posterior.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        code = Code(torch.zeros(64, 49), torch.zeros(64, 49), torch.randn(64, 4 * 49))
        sample = posterior(code, torch.randn(64, 49))
        assert sample.log_det is not None
        assert sample.z.isfinite().all() and sample.log_det.isfinite().all()
        assert sample.z.abs().max() < 1e4


def test_closed_and_sampled_kl() -> None:
    code = make_code()
    posterior = NormalPosterior()
    truth = kl_divergence(Normal(code.mu, (0.5 * code.logvar).exp()), Normal(torch.zeros_like(code.mu), 1.0))
    torch.testing.assert_close(posterior.kl(code), truth, rtol=1e-12, atol=1e-12)
    torch.manual_seed(0)
    repeated = code.repeat(20_000)
    sampled = posterior.sampled_kl(repeated, posterior(repeated, sample_gaussian(repeated.mu, repeated.logvar)))
    sampled = sampled.view(5, 20_000, LATENTS)
    error = (sampled.mean(1) - truth) / (sampled.std(1) / math.sqrt(20_000))
    assert error.square().mean() < 2 and error.abs().max() < 4
    total = sampled.sum(2)
    assert (abs(total.mean(1) - truth.sum(1)) < 3 * total.std(1) / math.sqrt(20_000)).all()


@pytest.mark.parametrize("kind", ["planar", "iaf"])
def test_the_kl_of_a_flow_does_not_split(kind: str) -> None:
    posterior, code = make(kind), make_code()
    sample = posterior(code, sample_gaussian(code.mu, code.logvar))
    log_prior = Normal(0.0, 1.0).log_prob(sample.z).sum(1)
    parts = posterior.sampled_kl(code, sample)
    torch.testing.assert_close(parts[:, 0], posterior.log_prob(code, sample) - log_prior)
    assert parts.shape == (5, 1) and not posterior.closed_form
    with pytest.raises(NotImplementedError, match="no closed form"):
        posterior.kl(code)


@pytest.mark.parametrize("kind", POSTERIORS)
def test_means_are_unbiased_and_of_independent_errors(kind: str) -> None:
    posterior, code = make(kind), make_code(1)
    torch.manual_seed(0)
    repeated = code.repeat(20_000)
    z = posterior(repeated, sample_gaussian(repeated.mu, repeated.logvar)).z
    firsts, seconds = posterior.means(code.repeat(500))
    for found in (firsts, seconds):
        error = torch.hypot(found.std(0) / math.sqrt(500), z.std(0) / math.sqrt(20_000))
        assert ((found.mean(0) - z.mean(0)).abs() < 5 * error).all()
    if isinstance(posterior, FlowPosterior):
        covariance = ((firsts - firsts.mean(0)) * (seconds - seconds.mean(0))).mean(0)
        assert (covariance.abs() < 5 * firsts.var(0) / math.sqrt(500)).all()
    else:
        assert torch.equal(firsts, code.mu.expand(500, -1)) and torch.equal(seconds, firsts)


@pytest.mark.parametrize("learn", [False, True])
def test_gaussian_likelihood(learn: bool) -> None:
    likelihood, outputs = Gaussian(0.2, learn).double(), torch.randn(3, 1, 2, 2, dtype=torch.float64)
    x = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    sigma = likelihood.log_sigma.detach().exp()
    truth = Normal(torch.sigmoid(outputs), sigma).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(likelihood.log_prob(outputs, x), truth, rtol=1e-12, atol=1e-12)
    assert sigma.item() == pytest.approx(0.2, rel=1e-6)
    assert len(list(likelihood.parameters())) == learn
    if learn:  # at its best, σ² is the mean square of the errors
        gradient = torch.autograd.grad(likelihood.log_prob(outputs, x).sum(), likelihood.log_sigma)[0]
        errors = (x - torch.sigmoid(outputs)).square()
        torch.testing.assert_close(gradient, (errors / sigma**2 - 1).sum(), rtol=1e-10, atol=1e-10)


class LinearGaussian(torch.nn.Module):
    """x = W z + b + σ ε, whose posterior is N(M⁻¹Wᵀ(x − b)/σ², M⁻¹), M = I + WᵀW/σ² (Bishop 2006, 12.2)."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        # Orthogonal columns make the posterior's covariance diagonal.
        q, _ = torch.linalg.qr(torch.randn(6, 3, generator=generator, dtype=torch.float64))
        self.w = q * torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
        self.b, self.sigma = torch.randn(6, generator=generator, dtype=torch.float64), 0.3
        self.posterior = NormalPosterior()
        self.image_floats = self.latent_floats = 24

    def encode(self, x: Tensor) -> Code:
        precision = 1 + (self.w.square()).sum(0) / self.sigma**2
        mu = (x.flatten(1) - self.b) @ self.w / self.sigma**2 / precision
        return Code(mu, -precision.log().expand_as(mu), None)

    def from_pixels(self, x: Tensor) -> None:
        return None

    def log_likelihood(self, z: Tensor, x: Tensor, from_pixels: None) -> Tensor:
        return Normal(z @ self.w.T + self.b, self.sigma).log_prob(x.flatten(1)).sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        covariance = self.w @ self.w.T + self.sigma**2 * torch.eye(6, dtype=torch.float64)
        return MultivariateNormal(self.b, covariance).log_prob(x.flatten(1))


def test_an_exact_posterior_gives_the_likelihood_with_every_single_sample() -> None:
    model = LinearGaussian()
    x = torch.randn(4, 1, 2, 3, dtype=torch.float64)
    code = model.encode(x)
    for _ in range(20):
        sample = model.posterior(code, sample_gaussian(code.mu, code.logvar))
        elbo = model.log_likelihood(sample.z, x, None) - model.posterior.sampled_kl(code, sample).sum(1)
        torch.testing.assert_close(elbo, model.log_prob(x), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("kind", POSTERIORS)
def test_models_of_every_posterior(kind: str) -> None:
    x = (torch.rand(3, 1, 8, 8) < 0.5).float()
    sizes = {"encoder_channels": 3, "encoder_blocks": 1, "decoder_channels": 3, "decoder_blocks": 1}
    models = [
        MlpVae((1, 8, 8), latent_dim=4, width=5, depth=1, posterior=kind, flow_steps=2),
        ConvVae((1, 8, 8), posterior=kind, flow_steps=2, pixelcnn_channels=2, pixelcnn_blocks=1, **sizes),
    ]
    for model in models:
        code = model.encode(x)
        assert (code.context is None) == (kind == "normal")
        sample = model.posterior(code, sample_gaussian(code.mu, code.logvar))
        assert sample.z.shape == (3, model.latent_dim) == (3, 4)
        loss = model.log_likelihood(sample.z, x, model.from_pixels(x)).sum()
        loss = loss - model.posterior.sampled_kl(code, sample).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))  # all of them are used
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_pixelvae_adds_logits_and_its_pixelcnn_can_be_off() -> None:
    torch.manual_seed(0)
    sizes = {"encoder_channels": 3, "encoder_blocks": 1, "decoder_channels": 3, "decoder_blocks": 1}
    model = ConvVae((1, 4, 4), pixelcnn_channels=3, pixelcnn_blocks=1, **sizes).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    x, z = (torch.rand(5, 1, 4, 4) < 0.5).double(), torch.randn(5, 1, dtype=torch.float64)
    assert model.pixelcnn is not None
    logits = model.decode(z) + model.pixelcnn(x)
    truth = torch.distributions.Bernoulli(logits=logits).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(model.log_likelihood(z, x, model.from_pixels(x)), truth)
    # An image that is sampled by given uniform numbers is where these lie below the pixels' probabilities.
    uniforms = torch.rand(5, 1, 4, 4, dtype=torch.float64)
    images = model.images(z, uniforms)
    probabilities = torch.sigmoid(model.decode(z) + model.pixelcnn(images))
    assert torch.equal(images, (uniforms < probabilities).double())
    model.switch_pixelcnn(False)
    off = torch.distributions.Bernoulli(logits=model.decode(z)).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(model.log_likelihood(z, x, model.from_pixels(x)), off)
    torch.testing.assert_close(model.images(z, uniforms), torch.sigmoid(model.decode(z)))


def test_a_pixelcnn_needs_bernoulli_pixels() -> None:
    with pytest.raises(ConfigError, match="likelihood=bernoulli"):
        ConvVae((1, 8, 8), pixelcnn_channels=2, likelihood="gaussian")


@pytest.mark.parametrize("kind", POSTERIORS)
def test_the_base_is_what_a_sample_comes_from(kind: str) -> None:
    posterior, code = make(kind), make_code()
    sample = posterior(code, torch.randn(5, LATENTS, dtype=torch.float64))
    torch.testing.assert_close(posterior.base(code, sample.z), sample.base, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "pixelcnn"])
def test_simulated_images_are_draws_of_the_likelihood(kind: str) -> None:
    """E log p(x|z) of draws is the negative entropy of p(x|z); of means or other draws it is not."""
    torch.manual_seed(0)
    sizes = {"encoder_channels": 3, "encoder_blocks": 1, "decoder_channels": 3, "decoder_blocks": 1}
    settings = {"likelihood": "gaussian", "sigma": 0.3} if kind == "gaussian" else {}
    model = ConvVae(
        (1, 4, 4), pixelcnn_channels=3 if kind == "pixelcnn" else 0, pixelcnn_blocks=1, **settings, **sizes
    )
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
        z = torch.randn(1, 1, dtype=torch.float64).expand(4000, -1)
        x = model.simulate(z)
        log_p = model.log_likelihood(z, x, model.from_pixels(x))
        logits = model.decode(z) + (0 if model.pixelcnn is None else model.pixelcnn(x))
    distribution = (
        Normal(logits.sigmoid(), 0.3) if kind == "gaussian" else torch.distributions.Bernoulli(logits=logits)
    )
    surprise = log_p + distribution.entropy().sum((1, 2, 3))  # of mean 0, pixel after pixel
    assert abs(surprise.mean()) < 4 * surprise.std() / math.sqrt(4000)
    if kind != "gaussian":
        assert x.unique().tolist() == [0, 1]
        assert (x[:1] != x).any()
