"""Every formula against something independent: torch.distributions, enumeration, quadrature, finite differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from genbench.functional import (
    elu,
    kl_gaussian_gaussian_analytic,
    kl_gaussian_gaussian_mc,
    kl_gaussian_standard_normal,
    log_likelihood_bernoulli,
    log_likelihood_bernoulli_logits,
    log_likelihood_normal,
    log_mean_exp,
    sample_gaussian,
)

SHAPES = [(5, 7), (4, 2, 3, 3)]
KLS = [kl_gaussian_gaussian_analytic, kl_gaussian_gaussian_mc]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def normal(shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, dtype=torch.float64)


def summed(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def gaussians(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return normal(shape), normal(shape, 0.7), normal(shape), normal(shape, 0.7)


def assert_finite(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """The value and its gradient with respect to every input."""
    inputs = tuple(x.clone().requires_grad_() for x in inputs)
    value = function(*inputs)
    assert value.isfinite().all(), value
    for gradient in torch.autograd.grad(value.sum(), inputs):
        assert gradient.isfinite().all(), gradient


# Bernoulli


@pytest.mark.parametrize("shape", SHAPES)
def test_bernoulli_agrees_with_torch_distributions(shape: tuple[int, ...]) -> None:
    logits = normal(shape, 3)
    target = torch.bernoulli(torch.full(shape, 0.4, dtype=torch.float64))
    expected = summed(Bernoulli(logits=logits).log_prob(target))
    torch.testing.assert_close(log_likelihood_bernoulli(logits.sigmoid(), target), expected)
    torch.testing.assert_close(log_likelihood_bernoulli_logits(logits, target), expected)
    assert expected.shape == (shape[0],)


def test_bernoulli_probabilities_sum_to_one_over_all_images() -> None:
    images = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6)), dtype=torch.float64)
    logits = normal((1, 6), 2).expand_as(images)
    for log_likelihood in (
        log_likelihood_bernoulli(logits.sigmoid(), images),
        log_likelihood_bernoulli_logits(logits, images),
    ):
        assert log_likelihood.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_bernoulli_gradients() -> None:
    logits, target = normal((3, 4)).requires_grad_(), torch.bernoulli(torch.full((3, 4), 0.5, dtype=torch.float64))
    mu = logits.detach().sigmoid().requires_grad_()
    assert torch.autograd.gradcheck(lambda m: log_likelihood_bernoulli(m, target), mu)
    assert torch.autograd.gradcheck(lambda x: log_likelihood_bernoulli_logits(x, target), logits)
    assert torch.autograd.gradgradcheck(lambda x: log_likelihood_bernoulli_logits(x, target), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_bernoulli_at_certain_means(mu: float, target: float, dtype: torch.dtype) -> None:
    means = torch.full((2, 3), mu, dtype=dtype)
    assert_finite(lambda m: log_likelihood_bernoulli(m, torch.full_like(m, target)), means)
    means.requires_grad_()
    value = log_likelihood_bernoulli(means, torch.full_like(means, target))
    (gradient,) = torch.autograd.grad(value.sum(), means)
    assert gradient.norm().isfinite()
    if mu == target:
        assert (value == 0).all()
        assert (gradient == 2 * mu - 1).all()  # of log μ at 1, of log(1 − μ) at 0
    else:
        assert (value < -3 * 36 * abs(mu - target)).all()
        assert (gradient * (target - mu) > 0).all()  # points at the target


@pytest.mark.parametrize(("mu", "target"), [(1e-12, 1.0), (1e-15, 1.0), (1 - 2**-24, 0.0), (1 - 2**-24, 1.0)])
def test_bernoulli_is_exact_next_to_certainty_in_float32(mu: float, target: float) -> None:
    value = log_likelihood_bernoulli(torch.full((1, 1), mu), torch.full((1, 1), target))
    assert value.item() == pytest.approx(math.log(mu if target else 1 - mu), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bernoulli_logits_at_extremes(dtype: torch.dtype) -> None:
    logits = torch.tensor([[-1e4], [-50], [0], [50], [1e4]], dtype=dtype)
    for target in (0.0, 1.0):
        assert_finite(lambda x, t=target: log_likelihood_bernoulli_logits(x, torch.full_like(x, t)), logits)
    expected = torch.tensor([-1e4, -50, -math.log(2), -math.exp(-50), 0], dtype=dtype)
    rounding = torch.finfo(dtype).eps / 2  # of 1 + exp(−50)
    torch.testing.assert_close(
        log_likelihood_bernoulli_logits(logits, torch.ones_like(logits)), expected, rtol=1e-6, atol=rounding
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_bernoulli_logits_in_half_precision(dtype: torch.dtype) -> None:
    """784 pixels of probability ½ have a product of 2⁷⁸⁴ on the way, which none of the types holds."""
    logits = torch.zeros(2, 784, dtype=dtype)
    found = log_likelihood_bernoulli_logits(logits, torch.ones_like(logits))
    torch.testing.assert_close(
        found.double(), torch.full((2,), -784 * math.log(2), dtype=torch.float64), rtol=1e-2, atol=0
    )


@pytest.mark.parametrize("features", [1, 111, 112, 113, 784, 1000])
def test_bernoulli_logits_of_any_number_of_pixels(features: int) -> None:
    """Large and small, in float32, beside the value in float64: their product overflows, taken all at once."""
    logits = torch.randn(6, features) * torch.tensor([0.0, 1e-3, 0.1, 1, 10, 100])[:, None]
    target = torch.bernoulli(torch.full_like(logits, 0.3))
    expected = Bernoulli(logits=logits.double()).log_prob(target.double()).sum(1)
    found = log_likelihood_bernoulli_logits(logits, target).double()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(log_likelihood_bernoulli_logits(logits, target).sum(), logits)
    torch.testing.assert_close(gradient, target - logits.sigmoid())


# ELU


def test_elu_is_that_of_pytorch() -> None:
    x = torch.tensor([-math.inf, -1e4, -3, -1e-3, -1e-9, -0.0, 0.0, 1e-9, 0.5, 200, 1e30, math.inf]).requires_grad_()
    rounding = torch.finfo(x.dtype).eps
    torch.testing.assert_close(elu(x), nn.functional.elu(x), rtol=1e-6, atol=rounding)
    slopes = [torch.autograd.grad(function(x).sum(), x)[0] for function in (elu, nn.functional.elu)]
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=rounding)
    assert elu(torch.tensor([math.nan])).isnan()


def test_elu_has_two_derivatives() -> None:
    x = normal((4, 5), 2).requires_grad_()
    assert torch.autograd.gradcheck(elu, x)
    assert torch.autograd.gradgradcheck(elu, x)


def test_a_gpu_takes_the_kernels_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    x, target = torch.randn(4, 5), torch.bernoulli(torch.full((4, 5), 0.5))
    own = elu(x), log_likelihood_bernoulli_logits(x, target)
    monkeypatch.setattr("genbench.functional.FUSED", {"cpu"})
    assert torch.equal(elu(x), nn.functional.elu(x))
    kernel, calls = nn.functional.binary_cross_entropy_with_logits, []
    monkeypatch.setattr(
        nn.functional, "binary_cross_entropy_with_logits", lambda *a, **k: (calls.append(a), kernel(*a, **k))[1]
    )
    torch.testing.assert_close((elu(x), log_likelihood_bernoulli_logits(x, target)), own)
    assert len(calls) == 1


def test_elu_leaves_its_input_and_its_layout_alone() -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    assert elu(x).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)


# Normal


@pytest.mark.parametrize("shape", SHAPES)
def test_normal_agrees_with_torch_distributions(shape: tuple[int, ...]) -> None:
    mu, logvar, z = normal(shape), normal(shape), normal(shape, 2)
    expected = summed(Normal(mu, (0.5 * logvar).exp()).log_prob(z))
    torch.testing.assert_close(log_likelihood_normal(mu, logvar, z), expected)
    assert expected.shape == (shape[0],)


def test_normal_density_integrates_to_one() -> None:
    z = torch.linspace(-20, 20, 4001, dtype=torch.float64)[:, None]
    for mu, logvar in ((0.0, 0.0), (1.5, 1.0), (-2.0, -2.0)):
        density = log_likelihood_normal(torch.full_like(z, mu), torch.full_like(z, logvar), z).exp()
        assert torch.trapezoid(density, z[:, 0]).item() == pytest.approx(1, abs=1e-10)


def test_normal_gradients() -> None:
    inputs = tuple(x.requires_grad_() for x in (normal((3, 4)), normal((3, 4)), normal((3, 4))))
    assert torch.autograd.gradcheck(log_likelihood_normal, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logvar", [-50.0, 50.0])
def test_normal_at_extreme_variances(logvar: float, dtype: torch.dtype) -> None:
    mu, z = torch.full((2, 3), -3.0, dtype=dtype), torch.full((2, 3), 5.0, dtype=dtype)
    logvars = torch.full((2, 3), logvar, dtype=dtype)
    assert_finite(log_likelihood_normal, mu, logvars, z)
    if dtype == torch.float64:
        expected = summed(Normal(mu, (0.5 * logvars).exp()).log_prob(z))
        torch.testing.assert_close(log_likelihood_normal(mu, logvars, z), expected)


# log-mean-exp


def test_log_mean_exp_agrees_with_its_definition() -> None:
    y = normal((6, 5))
    torch.testing.assert_close(log_mean_exp(y), y.exp().mean(-1).log())
    torch.testing.assert_close(log_mean_exp(y[:, :1]), y[:, 0])
    assert torch.autograd.gradcheck(log_mean_exp, y.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_mean_exp_at_extremes(dtype: torch.dtype) -> None:
    y = torch.tensor([[1e4, 1e4], [-1e4, -1e4], [1e4, -1e4], [0, 0]], dtype=dtype)
    assert_finite(log_mean_exp, y)
    expected = torch.tensor([1e4, -1e4, 1e4 - math.log(2), 0], dtype=dtype)
    torch.testing.assert_close(log_mean_exp(y), expected)


def test_log_mean_exp_of_weights_of_zero() -> None:
    zero = -math.inf
    y = torch.tensor([[2.0, zero], [zero, zero]], dtype=torch.float64)
    torch.testing.assert_close(log_mean_exp(y), torch.tensor([2 - math.log(2), zero], dtype=torch.float64))
    assert_finite(log_mean_exp, y[:1])


# Kullback-Leibler divergence


@pytest.mark.parametrize("shape", SHAPES)
def test_analytic_kl_agrees_with_torch_distributions(shape: tuple[int, ...]) -> None:
    mu_q, logvar_q, mu_p, logvar_p = gaussians(shape)
    q, p = Normal(mu_q, (0.5 * logvar_q).exp()), Normal(mu_p, (0.5 * logvar_p).exp())
    expected = summed(kl_divergence(q, p))
    torch.testing.assert_close(kl_gaussian_gaussian_analytic(mu_q, logvar_q, mu_p, logvar_p), expected)
    assert expected.shape == (shape[0],)


def test_analytic_kl_agrees_with_quadrature() -> None:
    arguments = torch.tensor([[0.5], [-1.0], [-0.3], [0.4]], dtype=torch.float64)
    z = torch.linspace(-15, 15, 6001, dtype=torch.float64)[:, None]
    mu_q, logvar_q, mu_p, logvar_p = (x.expand_as(z) for x in arguments)
    log_q, log_p = log_likelihood_normal(mu_q, logvar_q, z), log_likelihood_normal(mu_p, logvar_p, z)
    expected = torch.trapezoid(log_q.exp() * (log_q - log_p), z[:, 0]).item()
    value = kl_gaussian_gaussian_analytic(*(x[None] for x in arguments))
    assert value.item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_kl_of_a_distribution_to_itself_is_zero(shape: tuple[int, ...]) -> None:
    mu, logvar, *_ = gaussians(shape)
    for kl in KLS:
        torch.testing.assert_close(kl(mu, logvar, mu, logvar), mu.new_zeros(shape[0]))


@pytest.mark.parametrize("shape", SHAPES)
def test_monte_carlo_kl_is_unbiased(shape: tuple[int, ...]) -> None:
    arguments = gaussians(shape)
    estimates = torch.stack([kl_gaussian_gaussian_mc(*arguments, num_samples=10) for _ in range(2000)])
    assert estimates.shape == (2000, shape[0])
    error = estimates.mean(0) - kl_gaussian_gaussian_analytic(*arguments)
    assert (error.abs() < 3 * estimates.std(0) / math.sqrt(2000)).all()


def test_more_samples_reduce_the_variance_in_proportion() -> None:
    a, b, c, d = (x.expand(20_000, 3) for x in gaussians((1, 3)))
    one, sixteen = (kl_gaussian_gaussian_mc(a, b, c, d, num_samples=n).var().item() for n in (1, 16))
    assert one / sixteen == pytest.approx(16, rel=0.1)


def test_monte_carlo_kl_equals_the_log_ratio_at_its_samples() -> None:
    mu_q, logvar_q, mu_p, logvar_p = gaussians((4, 3))
    torch.manual_seed(7)
    value = kl_gaussian_gaussian_mc(mu_q, logvar_q, mu_p, logvar_p)
    torch.manual_seed(7)
    q, p = Normal(mu_q, (0.5 * logvar_q).exp()), Normal(mu_p, (0.5 * logvar_p).exp())
    z = mu_q + q.scale * torch.randn((1, 4, 3), dtype=torch.float64)[0]
    torch.testing.assert_close(value, summed(q.log_prob(z) - p.log_prob(z)))


def test_kl_gradients() -> None:
    arguments = tuple(x.requires_grad_() for x in gaussians((3, 4)))
    assert torch.autograd.gradcheck(kl_gaussian_gaussian_analytic, arguments)

    def same_noise(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
        torch.manual_seed(1)
        return kl_gaussian_gaussian_mc(mu_q, logvar_q, mu_p, logvar_p, num_samples=3)

    assert torch.autograd.gradcheck(same_noise, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logvar_p", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("logvar_q", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("kl", KLS)
def test_kl_at_extreme_variances(
    kl: Callable[..., Tensor], logvar_q: float, logvar_p: float, dtype: torch.dtype
) -> None:
    arguments = [torch.full((2, 100), x, dtype=dtype) for x in (1.0, logvar_q, -2.0, logvar_p)]
    assert_finite(kl, *arguments)
    if dtype == torch.float64 and kl is kl_gaussian_gaussian_analytic:
        q, p = (Normal(mu, (0.5 * logvar).exp()) for mu, logvar in (arguments[:2], arguments[2:]))
        torch.testing.assert_close(kl(*arguments), summed(kl_divergence(q, p)))


def test_beyond_the_range_of_float32_the_kl_still_pulls_the_right_way() -> None:
    mu_q, logvar_q, mu_p, logvar_p = (torch.full((1, 1), x).requires_grad_() for x in (0.0, 50.0, 0.0, -50.0))
    value = kl_gaussian_gaussian_analytic(mu_q, logvar_q, mu_p, logvar_p)  # e¹⁰⁰ / 2 in exact arithmetic
    pull_q, pull_p = torch.autograd.grad(value.sum(), (logvar_q, logvar_p))
    assert value.item() > 1e34
    assert pull_q.item() > 0 > pull_p.item()


def test_monte_carlo_kl_needs_a_sample() -> None:
    with pytest.raises(ValueError, match="num_samples must be positive, not 0"):
        kl_gaussian_gaussian_mc(*gaussians((2, 2)), num_samples=0)


# Samples


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_are_reparameterized(shape: tuple[int, ...]) -> None:
    mu, logvar = normal(shape).requires_grad_(), normal(shape).requires_grad_()
    z = sample_gaussian(mu, logvar)
    assert z.shape == shape
    by_mu, by_logvar = torch.autograd.grad(z.sum(), (mu, logvar))
    torch.testing.assert_close(by_mu, torch.ones_like(mu))
    torch.testing.assert_close(by_logvar, 0.5 * (z - mu).detach())


def test_samples_have_the_mean_and_variance_asked_for() -> None:
    n = 100_000
    z = sample_gaussian(torch.full((n,), 2.0, dtype=torch.float64), torch.full((n,), -1.0, dtype=torch.float64))
    sigma = math.exp(-0.5)
    assert abs(z.mean().item() - 2) < 3 * sigma / math.sqrt(n)
    assert abs(z.var().item() - sigma**2) < 3 * sigma**2 * math.sqrt(2 / n)


# The module


INPUTS: dict[Callable[..., Tensor], list[str]] = {
    log_likelihood_bernoulli: ["mu", "target"],
    log_likelihood_bernoulli_logits: ["logits", "target"],
    log_likelihood_normal: ["mu", "logvar", "z"],
    kl_gaussian_gaussian_analytic: ["mu_q", "logvar_q", "mu_p", "logvar_p"],
    kl_gaussian_gaussian_mc: ["mu_q", "logvar_q", "mu_p", "logvar_p"],
    kl_gaussian_standard_normal: ["mu", "logvar"],
    sample_gaussian: ["mu", "logvar"],
}


@pytest.mark.parametrize("function", INPUTS)
@pytest.mark.parametrize(("shape", "other"), [((4, 5), (4, 1, 5)), ((4,), (4, 1)), ((4, 5), (4, 1)), ((4, 5), (5,))])
def test_shapes_that_would_broadcast_by_accident_are_refused(
    function: Callable[..., Tensor], shape: tuple[int, ...], other: tuple[int, ...]
) -> None:
    """Each input in turn: all would give a value, of other samples than were meant."""
    names = INPUTS[function]
    for odd in range(len(names)):
        arguments = [torch.full(other if k == odd else shape, 0.5) for k in range(len(names))]
        with pytest.raises(ValueError, match="must have the same shape") as error:
            function(*arguments)
        for name, argument in zip(names, arguments, strict=True):
            assert f"{name} {list(argument.shape)}" in str(error.value)


@pytest.mark.parametrize("function", INPUTS)
def test_it_can_be_mapped_over_a_further_dimension(function: Callable[..., Tensor]) -> None:
    """As ensembles do."""
    arguments = [torch.rand(3, 4, 5, dtype=torch.float64) for _ in INPUTS[function]]
    torch.manual_seed(1)
    found = torch.func.vmap(function, randomness="same")(*arguments)
    for k in range(3):
        torch.manual_seed(1)
        torch.testing.assert_close(found[k], function(*(argument[k] for argument in arguments)))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("dynamic", [False, True])
def test_it_compiles_to_one_graph(dynamic: bool) -> None:
    def all_of_them(x: Tensor) -> Tensor:
        values = [
            function(*[x] * len(names)) for function, names in INPUTS.items() if function is not sample_gaussian
        ]
        return torch.stack(values)

    x = torch.rand(4, 5)
    compiled = torch.compile(all_of_them, fullgraph=True, dynamic=dynamic, backend="eager")
    torch.manual_seed(1)
    found = compiled(x)
    torch.manual_seed(1)
    torch.testing.assert_close(found, all_of_them(x))


@pytest.mark.parametrize("shape", SHAPES)
def test_kl_to_the_standard_normal_agrees_with_torch_distributions(shape: tuple[int, ...]) -> None:
    mu, logvar = normal(shape), normal(shape)
    expected = summed(kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), 1.0)))
    torch.testing.assert_close(kl_gaussian_standard_normal(mu, logvar), expected)
    scalars = kl_gaussian_standard_normal(mu.flatten(), logvar.flatten())  # a batch of scalars
    torch.testing.assert_close(scalars.view(shape).flatten(1).sum(1), expected)


@pytest.mark.parametrize("logvar", [-150.0, -50.0, 50.0, 89.0, 95.0])
def test_kl_to_the_standard_normal_is_finite(logvar: float) -> None:
    assert_finite(kl_gaussian_standard_normal, torch.ones(2, 100), torch.full((2, 100), logvar))


def test_the_gradient_of_a_target_is_the_logit() -> None:
    logits, target = normal((3, 4)), torch.rand(3, 4, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(log_likelihood_bernoulli_logits(logits, target).sum(), target)
    torch.testing.assert_close(gradient, logits)


def test_a_batch_of_scalars_gives_one_value_each() -> None:
    x = torch.zeros(4, dtype=torch.float64)
    assert log_likelihood_normal(x, x, x).tolist() == pytest.approx([-0.5 * math.log(2 * math.pi)] * 4)
    assert log_likelihood_bernoulli_logits(x, x).tolist() == pytest.approx([-math.log(2)] * 4)
    assert kl_gaussian_gaussian_mc(x, x, x, x).shape == (4,)
