"""Multiscale flows against their Jacobians; dequantization against Jacobians, quadrature and enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from genbench.bijections.base import Bijection, Compose
from genbench.bijections.coupling import AffineCoupling, channel_mask, checkerboard_mask
from genbench.bijections.dequantization import Dequantization, UniformDequantization, VariationalDequantization
from genbench.bijections.flow import Flow
from genbench.bijections.shape import ActNorm, InvertibleConv1x1, Logit, Squeeze
from genbench.bijections.split import Split
from genbench.errors import ConfigError

EXACT = 1e-10
BATCH = 3


pytestmark = pytest.mark.usefixtures("float64")


class WithContext(nn.Module):
    """A convolutional conditioner of x and a context of as many channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(2 * channels, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 2 * channels, 3, padding=1)
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.net(torch.cat([x, context], dim=1))


def conv(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 2 * channels, 3, padding=1))


def dense(features: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, out))


def channel_coupling(*shape: int) -> Bijection:
    return AffineCoupling(channel_mask(shape), conv(shape[0]))


def nested() -> Bijection:
    """[1, 8, 8] → 64, with halves of 32 and 16 dimensions left on the way."""
    inner = Compose([Squeeze(), channel_coupling(8, 2, 2), ActNorm(8), Split((8, 2, 2), channel_coupling(4, 2, 2))])
    coupling = AffineCoupling(checkerboard_mask((1, 8, 8)), conv(1))
    return Compose([coupling, Squeeze(), InvertibleConv1x1(4), Split((4, 4, 4), inner)])


def conditional(flip: bool) -> Bijection:
    return AffineCoupling(checkerboard_mask((1, 4, 4), flip=flip), WithContext(1), conditional=True)


CASES: dict[str, tuple[Callable[[], Bijection], tuple[int, ...]]] = {
    "split": (lambda: Split((4, 2, 2), channel_coupling(2, 2, 2)), (4, 2, 2)),
    "split-squeeze": (lambda: Split((2, 4, 4), Compose([Squeeze(), channel_coupling(4, 2, 2)])), (2, 4, 4)),
    "split-features": (lambda: Split((4,), AffineCoupling(checkerboard_mask((2,)), dense(2, 4))), (4,)),
    "split-nested": (nested, (1, 8, 8)),
    "split-context": (lambda: Split((2, 4, 4), conditional(False)), (2, 4, 4)),
    "coupling-context": (lambda: Compose([conditional(False), conditional(True)]), (1, 4, 4)),
}


def built(name: str) -> tuple[Bijection, Tensor, Tensor | None]:
    factory, shape = CASES[name]
    bijection = shaken(factory())
    return bijection.eval(), torch.rand(BATCH, *shape), torch.randn(BATCH, 1, 4, 4) if "context" in name else None


def shaken(module: nn.Module, size: float = 0.3) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return module


def jacobian_log_det(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det| of a map of one event, [*event] → as many numbers."""
    jacobian = torch.autograd.functional.jacobian(lambda v: function(v).flatten(), x)
    return torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel())).logabsdet


def close(actual: Tensor, expected: Tensor, tolerance: float = EXACT) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_the_inverse_comes_back_and_both_volumes_are_the_jacobians(name: str) -> None:
    bijection, x, context = built(name)
    y, log_det = bijection(x, context)
    loaded = CASES[name][0]().eval()  # which has never gone forward
    loaded.load_state_dict(bijection.state_dict())
    x_again, inverse = loaded.inverse(y, context)
    close(x_again, x)
    close(inverse, -log_det)
    assert log_det.abs().min() > 1e-3
    for i in range(BATCH):
        given = None if context is None else context[i : i + 1]
        close(log_det[i], jacobian_log_det(lambda v, c=given: bijection(v[None], c)[0], x[i]))
        close(inverse[i], jacobian_log_det(lambda v, c=given: bijection.inverse(v[None], c)[0], y[i].detach()))


def test_split_leaves_the_second_half_alone_and_puts_it_last() -> None:
    x = torch.rand(BATCH, 4, 2, 2)
    y, _ = shaken(Split((4, 2, 2), channel_coupling(2, 2, 2)))(x)
    assert y.shape == (BATCH, 16)
    assert torch.equal(y[:, 8:], x[:, 2:].flatten(1))
    assert not torch.equal(y[:, :8], x[:, :2].flatten(1))


def test_looking_for_the_shape_inside_trains_nothing() -> None:
    norm = ActNorm(2)
    split = Split((4, 2, 2), norm).train()
    before = {name: value.clone() for name, value in split.state_dict().items()}
    split.inverse(torch.randn(BATCH, 16))
    assert all(torch.equal(value, before[name]) for name, value in split.state_dict().items())
    assert norm.training and not norm.initialised


def test_a_multiscale_flow_is_an_ordinary_flow() -> None:
    flow = Flow(shaken(nested()).eval(), [64], "data to base")
    x = flow.sample(5)
    assert x.shape == (5, 1, 8, 8)
    z, log_det = flow.to_base(x)
    close(flow.log_prob(x), torch.distributions.Normal(0, 1).log_prob(z).sum(1) + log_det)
    close(flow.to_data(z)[0], x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Split((3, 2, 2), Squeeze()), "halves"),
        (lambda: conditional(False)(torch.zeros(1, 1, 4, 4)), "context"),
        (lambda: UniformDequantization(100), "levels"),
        (lambda: UniformDequantization(1), "levels"),
    ],
)
def test_bad_input_is_told(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


# -------------------------------------------------------------------------------------------------- dequantization


class PixelPair(nn.Module):
    """A conditioner for images [1, 1, 2] with a context, by an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.net = dense(4, 4)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = torch.zeros_like(x) if context is None else context
        return self.net(torch.cat([x, context], dim=1).flatten(1)).reshape(-1, 2, 1, 2)


def pair_couplings(*, with_context: bool) -> Compose:
    masks = [checkerboard_mask((1, 1, 2), flip=flip) for flip in (False, True, False, True)]
    # As PyTorch draws them: scales between e^−1 and e, which keeps all mass within reach of a quadrature.
    return Compose(AffineCoupling(mask, PixelPair(), conditional=with_context) for mask in masks)


def noises(levels: int) -> list[Dequantization]:
    return [UniformDequantization(levels), VariationalDequantization(levels, pair_couplings(with_context=True))]


@pytest.mark.parametrize("kind", [0, 1], ids=["uniform", "variational"])
@pytest.mark.parametrize("levels", [4, 256])
def test_the_weight_is_the_volume_of_the_draw(kind: int, levels: int) -> None:
    """w = 1/(q(u|x) L^D), and u is a uniform draw moved by a map of Jacobian 1/q."""
    noise = noises(levels)[kind]
    x = torch.randint(levels, (6, 1, 1, 2)).double()
    uniform = torch.rand(6, 1, 1, 2)
    v, log_weight = noise.at(x, uniform)
    for i in range(6):
        expected = jacobian_log_det(lambda u, i=i: noise.at(x[i : i + 1], u[None])[0], uniform[i])
        close(log_weight[i], expected, 1e-9)
    assert torch.equal(noise.quantize(v), x)
    assert (log_weight.std() > 1e-2) == (kind == 1)


def square(n: int = 200, half_width: float = 30.0) -> tuple[Tensor, Tensor]:
    """Points of (0, 1)², [n², 1, 1, 2], and their weights, [n²]: the trapezoidal rule for the logits."""
    axis = torch.linspace(-half_width, half_width, n)
    u = torch.sigmoid(axis)
    weights = u * torch.sigmoid(-axis) * (axis[1] - axis[0])
    return torch.cartesian_prod(u, u).reshape(-1, 1, 1, 2), torch.cartesian_prod(weights, weights).prod(1)


@pytest.mark.parametrize("levels", [2, 4])
def test_probabilities_of_all_images_add_up_to_one(levels: int) -> None:
    """P(x) by all draws of the noise, weighted, is the mass of p in x's cell, found without noise; and Σ P = 1."""
    flow = Flow(Compose([Logit(1e-9), pair_couplings(with_context=False)]), (1, 1, 2), "data to base")
    dequantizations = noises(levels)
    grid, weights = square()
    mass = {}
    with torch.no_grad():
        for pixels in itertools.product(range(levels), repeat=2):
            x = torch.tensor(pixels).double().expand_as(grid)
            mass[pixels] = (flow.log_prob((x + grid) / levels).exp() * weights).sum() / levels**2
            for noise in dequantizations:
                v, log_weight = noise.at(x, grid)
                close(((flow.log_prob(v) + log_weight).exp() * weights).sum(), mass[pixels], 1e-4)
    assert max(mass.values()) > 1.5 * min(mass.values())
    close(sum(mass.values()), torch.tensor(1.0), 1e-4)


def test_the_margin_counts_in_float32() -> None:
    """At the margin of float32 the draws cover 3e-5 less than the cell, and the weight says so."""
    noise, x = UniformDequantization(256), torch.zeros(2, 1, dtype=torch.float32)
    v, log_weight = noise.at(x, torch.tensor([[0.0], [0.5]], dtype=torch.float32))
    close(log_weight.double(), (2 * (v[1] - v[0])).double().log().expand(2), 1e-6)
    assert log_weight[0] < -math.log(256) - 2e-5


def test_a_noise_that_starts_as_the_identity_is_uniform() -> None:
    plain, learned = UniformDequantization(256), VariationalDequantization(256, Compose([]))
    x = torch.randint(256, (4, 1, 3, 3)).double()
    draws = [noise.dequantize(x, torch.Generator().manual_seed(1)) for noise in (plain, learned)]
    for mine, theirs in zip(*draws, strict=True):
        close(mine, theirs)


def test_the_learned_noise_sees_the_image() -> None:
    noise = noises(256)[1]
    uniform = torch.rand(1, 1, 1, 2)
    black, white = torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1, 2), 255.0)
    inside = [256 * noise.at(x, uniform)[0] - x for x in (black, white)]
    assert (inside[0] - inside[1]).abs().max() > 1e-2


class Push(Bijection):
    """Far into the flat parts of the sigmoid."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x + self.by, x.new_zeros(len(x))


class Seen(Bijection):
    """The identity; remembers its context."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.context = context
        return x, x.new_zeros(len(x))


@pytest.mark.parametrize("levels", [2, 32, 256])
def test_learned_noise_sees_pixels_from_minus_one_to_one(levels: int) -> None:
    noise = Seen()
    x = torch.tensor([[0.0, (levels - 1) / 2, levels - 1]])
    VariationalDequantization(levels, noise).at(x, torch.full_like(x, 0.5))
    torch.testing.assert_close(noise.context, torch.tensor([[-1.0, 0.0, 1.0]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 32, 256])
def test_no_draw_leaves_its_pixel(levels: int, dtype: torch.dtype) -> None:
    smallest, largest = 0.0, 1 - torch.finfo(dtype).eps / 2
    x = torch.arange(levels, dtype=dtype).reshape(-1, 1)
    pushed = [VariationalDequantization(levels, Push(by)) for by in (-1e3, 0.0, 1e3)]
    for noise in (UniformDequantization(levels), *pushed):
        for draw in (smallest, 0.5, largest):
            v, log_weight = noise.at(x, torch.full_like(x, draw))
            assert v.dtype == log_weight.dtype == dtype
            assert v.min() > 0 and v.max() < 1 and log_weight.isfinite().all()
            assert torch.equal(noise.quantize(v), x)
            for alpha in (0.0, 1e-5):
                y, log_det = Logit(alpha)(v)
                assert y.isfinite().all() and log_det.isfinite().all()


def test_pixels_of_values_between_and_beyond() -> None:
    noise = UniformDequantization(4)
    v = torch.tensor([-0.1, 0.0, 0.24, 0.25, 0.99, 1.0, 1.7])
    assert noise.quantize(v).tolist() == [0, 0, 0, 1, 3, 3, 3]
    x = torch.arange(4.0)
    assert noise.centre(x).tolist() == [0.125, 0.375, 0.625, 0.875]
