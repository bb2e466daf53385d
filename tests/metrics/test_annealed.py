"""Annealed importance sampling against evidence in closed form, quadrature, and importance sampling."""

from __future__ import annotations

import math

import pytest
import torch
from small_vaes import binary_images, quadrature, small_pixelvae, small_vae
from torch import Tensor, nn

from genbench.metrics import annealed
from genbench.metrics.annealed import annealed_log_likelihood, bidirectional_log_likelihood, schedule
from genbench.metrics.importance import importance_sampled_log_likelihood, log_mean_weight
from genbench.models.posterior import POSTERIORS, Code, NormalPosterior
from genbench.models.vae import Vae

STARTS = ("encoder", "prior")


class LinearGaussian:
    """x = W z + s e with z, e ~ N(0, I): log p(x) = log N(x; 0, W Wᵀ + s² I), and the posterior is normal.

    The columns of W are orthogonal, so that the encoder can give the posterior; or one that is off by `shift`
    standard deviations and has `width` times its own. Images of class y are brighter by y.
    """

    posterior = NormalPosterior()
    image_floats = latent_floats = 40

    def __init__(self, latents: int = 4, noise: float = 0.5, shift: float = 0.0, width: float = 1.0) -> None:
        random = torch.randn(8, latents, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.weight = torch.linalg.qr(random).Q * torch.linspace(0.5, 2, latents, dtype=torch.float64)
        self.noise, self.shift, self.width = noise, shift, width

    def encode(self, x: Tensor, *labels: Tensor) -> Code:
        x = darker(x, *labels)
        variance = 1 / (1 + self.weight.square().sum(0) / self.noise**2)
        mean = variance * (x.flatten(1) @ self.weight) / self.noise**2
        logvar = (variance * self.width**2).log().expand_as(mean)
        return Code(mean + self.shift * variance.sqrt(), logvar, None)

    def from_pixels(self, x: Tensor) -> Tensor | None:
        return None

    def log_likelihood(self, z: Tensor, x: Tensor, from_pixels: Tensor | None, *labels: Tensor) -> Tensor:
        normal = torch.distributions.Normal(z @ self.weight.T, self.noise)
        return normal.log_prob(darker(x, *labels).flatten(1)).sum(1)

    def evidence(self, x: Tensor) -> Tensor:
        covariance = self.weight @ self.weight.T + self.noise**2 * torch.eye(8, dtype=torch.float64)
        zero = torch.zeros(8, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(zero, covariance).log_prob(x.flatten(1))

    def simulated(self, count: int) -> tuple[Tensor, Tensor]:
        """Images [N, 1, 2, 4] and the latents that they come from."""
        z = torch.randn(count, self.weight.shape[1], dtype=torch.float64)
        x = z @ self.weight.T + self.noise * torch.randn(count, 8, dtype=torch.float64)
        return x.view(count, 1, 2, 4), z


def darker(x: Tensor, *labels: Tensor) -> Tensor:
    for each in labels:
        x = x - each.view(-1, 1, 1, 1)
    return x


def off(found: Tensor, truth: Tensor) -> tuple[float, float]:
    """How far a mean over images lies above the truth, and the standard error of that."""
    difference = found - truth
    return difference.mean().item(), difference.std().item() / math.sqrt(len(difference))


@pytest.mark.parametrize("start", STARTS)
def test_agrees_with_the_evidence_in_closed_form(start: str) -> None:
    torch.manual_seed(0)
    model = LinearGaussian(shift=1.5, width=0.6)  # a poor encoder
    x, _ = model.simulated(100)
    found = annealed_log_likelihood(model, x, Tensor.double, 80, 24, start=start)
    error, sampling = off(found.value, model.evidence(x))
    assert abs(error) < 4 * sampling + 0.003
    assert sampling < 0.05
    # Importance sampling with as many samples as the chains take steps is worse.
    poor = importance_sampled_log_likelihood(model, x, Tensor.double, 32)
    assert off(poor.value, model.evidence(x))[0] < -0.3


@pytest.mark.parametrize("start", STARTS)
def test_bidirectional_chains_bracket_the_evidence_and_the_gap_closes(start: str) -> None:
    torch.manual_seed(0)
    model = LinearGaussian(shift=1.0, width=1.5)
    x, z = model.simulated(100)
    gaps = []
    for temperatures in (3, 10, 150):
        bracket = bidirectional_log_likelihood(model, x, z, temperatures, 8, start=start)
        (low, low_error), (high, high_error) = (off(part.value, model.evidence(x)) for part in bracket)
        assert low < 3 * low_error
        assert high > -3 * high_error
        torch.testing.assert_close(bracket.gap, bracket.upper.value - bracket.lower.value)
        gaps.append(bracket.gap.mean().item())
    assert gaps[0] > 0.2
    assert gaps[0] > gaps[1] > gaps[2]
    assert abs(gaps[2]) < 0.1


def test_a_lower_bound_of_few_temperatures_is_below_and_an_upper_one_above() -> None:
    """Not only for want of samples: with one chain, by the relative entropies that annealing leaves."""
    torch.manual_seed(0)
    model = LinearGaussian()
    x, z = model.simulated(400)
    bracket = bidirectional_log_likelihood(model, x, z, 2, 1, start="prior")
    (low, low_error), (high, high_error) = (off(part.value, model.evidence(x)) for part in bracket)
    assert low < -5 * low_error
    assert high > 5 * high_error
    assert bracket.lower.variance.isnan().all()  # of one chain


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("memory_mib", [1e-9, 256])  # an image at a time, and all of them
def test_given_a_class_it_is_that_of_the_image(start: str, memory_mib: float) -> None:
    torch.manual_seed(0)
    model = LinearGaussian(shift=0.5)
    z, labels = torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3
    x = (z @ model.weight.T + model.noise * torch.randn(9, 8, dtype=torch.float64)).view(9, 1, 2, 4)
    bright = x + labels.view(-1, 1, 1, 1)
    state = torch.get_rng_state()
    plain = annealed_log_likelihood(model, x, Tensor.double, 10, 4, memory_mib, start)
    torch.set_rng_state(state)
    found = annealed_log_likelihood(model, bright, Tensor.double, 10, 4, memory_mib, start, labels)
    torch.testing.assert_close(found.value, plain.value, rtol=1e-8, atol=1e-8)
    torch.set_rng_state(state)
    expected = bidirectional_log_likelihood(model, x, z, 10, 4, memory_mib, start)
    torch.set_rng_state(state)
    bracket = bidirectional_log_likelihood(model, bright, z, 10, 4, memory_mib, start, labels)
    torch.testing.assert_close(bracket.gap, expected.gap, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("temperatures", [1, 2, 30])
def test_of_an_exact_posterior_every_weight_is_the_evidence(temperatures: int) -> None:
    torch.manual_seed(0)
    model = LinearGaussian()
    x, z = model.simulated(20)
    found = annealed_log_likelihood(model, x, Tensor.double, temperatures, 2)
    torch.testing.assert_close(found.value, model.evidence(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        found.value, importance_sampled_log_likelihood(model, x, Tensor.double, 3).value, rtol=1e-10, atol=1e-10
    )
    assert (found.variance < 1e-18).all()
    bracket = bidirectional_log_likelihood(model, x, z, temperatures, 2)
    torch.testing.assert_close(bracket.gap, torch.zeros_like(bracket.gap), rtol=0, atol=1e-10)


def test_one_temperature_is_importance_sampling() -> None:
    torch.manual_seed(0)
    model = LinearGaussian(shift=0.5)
    x, _ = model.simulated(5)
    state = torch.get_rng_state()
    found = annealed_log_likelihood(model, x, Tensor.double, 1, 6)
    torch.set_rng_state(state)
    seeds = torch.randint(2**62, (5,)).tolist()
    noise = torch.cat([torch.randn(6, 4, generator=torch.Generator().manual_seed(s), dtype=x.dtype) for s in seeds])
    code = model.encode(x).repeat(6)
    z = code.mu + (0.5 * code.logvar).exp() * noise
    normal = torch.distributions.Normal(0.0, 1.0)
    proposal = torch.distributions.Normal(code.mu, (0.5 * code.logvar).exp())
    log_ratio = (normal.log_prob(z) - proposal.log_prob(z)).sum(1)
    weights = model.log_likelihood(z, x.repeat_interleave(6, 0), None) + log_ratio
    torch.testing.assert_close(found.value, log_mean_weight(weights.view(5, 6)).value)
    assert found.acceptance.isnan().all()


def covering_vae(posterior: str) -> Vae:
    """Its encoder covers the posterior, as that of a flow does already."""
    model = small_vae(posterior)
    if posterior == "normal":
        with torch.no_grad():
            last = model.encoder[-1]
            assert isinstance(last, nn.Linear)
            last.weight *= 0.2
            last.bias[2:] += 1.5
    return model


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_agrees_with_quadrature(posterior: str, start: str) -> None:
    model, images = covering_vae(posterior), binary_images(4)
    with torch.no_grad():
        truth = quadrature(model, images)
    torch.manual_seed(0)
    repeated = images.repeat(16, 1, 1, 1)
    found = annealed_log_likelihood(model, repeated, Tensor.double, 10, 16, start=start).value.view(16, 4)
    error = found.mean(0) - truth
    assert (error.abs() < 3.5 * found.std(0) / 4 + 0.01).all()
    assert found.std() / 4 < 0.3


def bracketed(model: Vae, temperatures: int, points: int = 401) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        z = torch.randn(40, 2, dtype=torch.float64)
        x = model.simulate(z)
        truth = quadrature(model, x, points)
    bracket = bidirectional_log_likelihood(model, x, z, temperatures, 8)
    for part in bracket:
        error, sampling = off(part.value, truth)
        assert abs(error) < 4 * sampling + 0.005
        assert sampling < 0.1


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_simulated_images_are_bracketed(posterior: str) -> None:
    bracketed(covering_vae(posterior), 80 if posterior == "normal" else 20)


@pytest.mark.parametrize("posterior", ["normal", "iaf"])
def test_a_pixelvae_agrees_with_quadrature(posterior: str) -> None:
    model = small_pixelvae(posterior)
    images = binary_images(3, 32).view(3, 1, 4, 8)
    with torch.no_grad():
        truth = quadrature(model, images, 101)
    torch.manual_seed(0)
    found = annealed_log_likelihood(model, images, Tensor.double, 10, 200)
    assert ((found.value - truth).abs() < 4 * found.variance.sqrt() + 1e-3).all()
    bracketed(model, 10, 101)


@pytest.mark.parametrize("wrong", [0.1, 10.0])
@pytest.mark.parametrize(("latents", "start"), [(2, "encoder"), (8, "prior")])
def test_the_step_size_comes_to_the_acceptance_rate_of_the_paper(
    latents: int, start: str, wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From steps that are far too small, and from far too large ones."""
    torch.manual_seed(0)
    model = LinearGaussian(latents, shift=0.5, width=1.5)
    x, _ = model.simulated(5)
    rates: list[Tensor] = []
    transition = annealed._transition

    def with_another_step(weights, state, beta, step, noise):  # type: ignore[no-untyped-def]
        moved, accepted = transition(weights, state, beta, wrong * step, noise)
        rates.append(accepted)
        return moved, accepted

    monkeypatch.setattr(annealed, "_transition", with_another_step)
    found = annealed_log_likelihood(model, x, Tensor.double, 200, 16, start=start)
    torch.testing.assert_close(found.acceptance, torch.stack(rates).mean(0))
    assert 0.6 < torch.stack(rates[100:]).mean() < 0.7


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_value_does_not_depend_on_the_chunks(posterior: str) -> None:
    model, images = small_vae(posterior), binary_images(7)
    found, rows, largest = [], [], []
    model.decoder.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    for memory_mib in (256, 0.003, 1e-6):  # all at once, several images, one
        torch.manual_seed(5)
        rows.clear()
        found.append(torch.stack(annealed_log_likelihood(model, images, Tensor.double, 5, 3, memory_mib)))
        largest.append(max(rows))
    for value in found[1:]:
        torch.testing.assert_close(value, found[0], rtol=1e-9, atol=1e-9)
    assert largest[0] == 21
    assert 3 <= largest[1] < 21
    assert largest[2] == 3


def test_the_value_is_that_of_the_generators_state() -> None:
    model, images = small_vae(), binary_images(4)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(annealed_log_likelihood(model, images, Tensor.double, 5, 3).value)
    assert torch.equal(values[0], values[1])
    assert not (values[0] == values[2]).any()
    torch.manual_seed(1)  # an image's noise is its own: it does not matter what is judged beside it
    alone = annealed_log_likelihood(model, images[:1], Tensor.double, 5, 3).value
    torch.testing.assert_close(alone, values[0][:1], rtol=1e-9, atol=1e-9)


def test_gradients_need_the_memory_that_is_asked_for() -> None:
    """What autograd keeps for a chunk is counted, deep networks included."""
    torch.manual_seed(0)
    model = Deep(40)
    kept = []

    def count(tensor: Tensor) -> Tensor:
        kept[-1] += tensor.numel()
        return tensor

    original = annealed._Weights.log_weight

    def watched(self: annealed._Weights, noise: Tensor) -> Tensor:
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            return original(self, noise)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annealed._Weights, "log_weight", watched)
        annealed_log_likelihood(model, binary_images(60), Tensor.float, 2, 4, memory_mib=0.5)
    weights = sum(parameter.numel() for parameter in model.decoder.parameters())
    assert 0.25 * 2**17 < max(kept) - weights < 2**17


class Deep(nn.Module):
    """A decoder of many layers, each of which keeps its input."""

    posterior = NormalPosterior()
    image_floats = latent_floats = 24

    def __init__(self, layers: int) -> None:
        super().__init__()
        hidden = [part for _ in range(layers) for part in (nn.Linear(6, 6), nn.Tanh())]
        self.decoder = nn.Sequential(nn.Linear(2, 6), *hidden)

    def encode(self, x: Tensor) -> Code:
        return Code(x.flatten(1)[:, :2], x.flatten(1)[:, 2:4], None)

    def from_pixels(self, x: Tensor) -> Tensor | None:
        return None

    def log_likelihood(self, z: Tensor, x: Tensor, from_pixels: Tensor | None) -> Tensor:
        return -(self.decoder(z) - x.flatten(1)).square().sum(1)


def test_a_proposal_that_overflows_is_rejected() -> None:
    torch.manual_seed(0)

    class Steep(LinearGaussian):
        def log_likelihood(self, z: Tensor, x: Tensor, from_pixels: Tensor | None) -> Tensor:
            return torch.where(z.square().sum(1) > 4, -torch.inf, super().log_likelihood(z, x, None))

    model = Steep(shift=0.1, width=0.5)
    x, _ = model.simulated(3)
    found = annealed_log_likelihood(model, 0.1 * x, Tensor.double, 20, 8)
    assert found.value.isfinite().all()
    assert (found.acceptance > 0).all()


def test_the_schedule_is_the_papers() -> None:
    betas = schedule(1000)
    assert len(betas) == 1001
    assert (betas[0], betas[-1]) == (0, 1)
    sigmoid = [1 / (1 + math.exp(-4 * (2 * t / 1000 - 1))) for t in range(1001)]
    for t in (1, 250, 500, 999):
        assert betas[t] == pytest.approx((sigmoid[t] - sigmoid[0]) / (sigmoid[-1] - sigmoid[0]), rel=1e-9)
    assert betas[500] == pytest.approx(0.5)
    assert betas == sorted(betas)
