"""Every bijection against its own Jacobian, in float64, and flows against quadrature."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from genbench.bijections.autoregressive import (
    MADE,
    InverseAutoregressive,
    MaskedAutoregressive,
    made_masks,
)
from genbench.bijections.base import Bijection, Compose, Inverse, InverseNotAvailable, softplus
from genbench.bijections.coupling import AffineCoupling, channel_mask, checkerboard_mask
from genbench.bijections.flow import Flow
from genbench.bijections.planar import Planar, PlanarStack, Radial, constrain
from genbench.bijections.shape import ActNorm, BatchNorm, InvertibleConv1x1, Logit, Permutation, Squeeze
from genbench.errors import ConfigError

EXACT = 1e-10
BATCH = 4
ORDER = (2, 0, 4, 1, 3)


pytestmark = pytest.mark.usefixtures("float64")


def dense(features: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, 2 * features))


def conv(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 2 * channels, 3, padding=1))


def image_flow() -> Bijection:
    return Compose(
        [
            Logit(0.05),
            AffineCoupling(checkerboard_mask((1, 4, 4)), conv(1)),
            Squeeze(),
            ActNorm(4),
            InvertibleConv1x1(4),
            AffineCoupling(channel_mask((4, 2, 2)), conv(4)),
        ]
    )


CASES: dict[str, tuple[Callable[[], Bijection], tuple[int, ...]]] = {
    "planar": (lambda: Planar(3), (3,)),
    "planar-inverse": (lambda: Inverse(Planar(3)), (3,)),
    "planar-stack": (lambda: PlanarStack(3, 4), (3,)),
    "planar-stack-context": (lambda: PlanarStack(3, 2, context=2), (3,)),
    "radial": (lambda: Radial(3), (3,)),
    "radial-inverse": (lambda: Inverse(Radial(3)), (3,)),
    "coupling": (lambda: AffineCoupling(checkerboard_mask((5,)), dense(5)), (5,)),
    "coupling-checkerboard": (lambda: AffineCoupling(checkerboard_mask((1, 4, 4), flip=True), conv(1)), (1, 4, 4)),
    "coupling-channel": (lambda: AffineCoupling(channel_mask((3, 2, 2)), conv(3)), (3, 2, 2)),
    "squeeze": (Squeeze, (2, 4, 2)),
    "permutation": (lambda: Permutation(ORDER), (5,)),
    "permutation-channels": (lambda: Permutation.random(3), (3, 2, 2)),
    "permutation-reverse": (lambda: Permutation.reverse(4), (4,)),
    "logit": (lambda: Logit(1e-5), (1, 2, 3)),
    "logit-0": (lambda: Logit(0.0), (3,)),
    "actnorm": (lambda: ActNorm(3), (3, 2, 2)),
    "actnorm-features": (lambda: ActNorm(3), (3,)),
    "conv1x1": (lambda: InvertibleConv1x1(3), (3, 2, 2)),
    "conv1x1-features": (lambda: InvertibleConv1x1(4), (4,)),
    "batchnorm": (lambda: BatchNorm(3), (3, 2, 2)),
    "batchnorm-features": (lambda: BatchNorm(3), (3,)),
    "maf": (lambda: MaskedAutoregressive(5, [16, 16]), (5,)),
    "maf-order": (lambda: MaskedAutoregressive(5, [3], ORDER), (5,)),
    "maf-1": (lambda: MaskedAutoregressive(1, [4]), (1,)),
    "maf-context": (lambda: MaskedAutoregressive(3, [8], context=2), (3,)),
    "iaf": (lambda: InverseAutoregressive(5, [16, 16], ORDER), (5,)),
    "iaf-context": (lambda: InverseAutoregressive(5, [16], context=2), (5,)),
    "compose-images": (image_flow, (1, 4, 4)),
    "compose-context": (
        lambda: Compose([InverseAutoregressive(3, [8], context=2), Permutation.reverse(3), Planar(3), Radial(3)]),
        (3,),
    ),
}


def built(name: str) -> tuple[Bijection, Tensor, Tensor | None]:
    """Off its initial values, after one batch in training mode, in evaluation mode; inputs within (0, 1); context."""
    factory, shape = CASES[name]
    bijection = factory()
    context = torch.randn(BATCH, 2) if "context" in name else None
    x = torch.rand(BATCH, *shape)
    with torch.no_grad():
        bijection(x, context)
        for parameter in bijection.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return bijection.eval(), x, context


def jacobian_log_det(function: Callable[..., tuple[Tensor, Tensor]], x: Tensor, context: Tensor | None) -> Tensor:
    values = []
    for i, one in enumerate(x):
        given = None if context is None else context[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda v, given=given: function(v[None], given)[0].flatten(), one
        )
        values.append(torch.linalg.slogdet(jacobian.reshape(one.numel(), one.numel())).logabsdet)
    return torch.stack(values)


def close(actual: Tensor, expected: Tensor, tolerance: float = EXACT) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_the_inverse_undoes_the_map_and_its_volume(name: str) -> None:
    bijection, x, context = built(name)
    y, forward = bijection(x, context)
    back, inverse = bijection.inverse(y, context)
    assert forward.shape == inverse.shape == (BATCH,)
    close(back, x)
    close(forward + inverse, torch.zeros(BATCH))
    again, _ = bijection(back, context)
    close(again, y)


@pytest.mark.parametrize("name", CASES)
def test_log_det_is_that_of_the_jacobian(name: str) -> None:
    bijection, x, context = built(name)
    y, log_det = bijection(x, context)
    close(log_det, jacobian_log_det(bijection, x, context))
    y = y.detach()
    close(bijection.inverse(y, context)[1], jacobian_log_det(bijection.inverse, y, context))


@pytest.mark.parametrize("name", CASES)
def test_a_state_dict_carries_all_that_the_map_is(name: str) -> None:
    bijection, x, context = built(name)
    other = CASES[name][0]().eval()
    other.load_state_dict(bijection.state_dict())
    y, log_det = bijection(x, context)
    for mine, theirs in zip((y, log_det), other(x, context), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(bijection.inverse(y, context), other.inverse(y, context), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_both_ways(name: str, dtype: torch.dtype) -> None:
    bijection, x, context = built(name)
    bijection, x, context = bijection.to(dtype), x.to(dtype), None if context is None else context.to(dtype)
    y = bijection(x, context)[0].detach()
    for function, point in ((bijection, x), (bijection.inverse, y)):
        bijection.zero_grad()
        point = point.clone().requires_grad_()
        value, log_det = function(point, context)
        (value.square().sum() + log_det.sum()).backward()
        assert value.dtype == log_det.dtype == dtype
        for tensor in (point, *bijection.parameters()):
            assert tensor.grad is not None and tensor.grad.isfinite().all()


# ---------------------------------------------------------------------------------------------------------- planar


PLANAR_STARTS = {"w": 3.0, "u": 0.1, "b": 2.0}  # docs/measurements.md
RADIAL_STARTS = {"center": 1.0, "raw_alpha": 1.0, "raw_beta": 1.0}


@pytest.mark.parametrize(
    ("maps", "starts"),
    [
        (lambda features: [PlanarStack(features, 500)], PLANAR_STARTS),
        (lambda features: [Planar(features) for _ in range(500)], PLANAR_STARTS),
        (lambda features: [Radial(features) for _ in range(500)], RADIAL_STARTS),
    ],
    ids=["planar-stack", "planar", "radial"],
)
@pytest.mark.parametrize("features", [2, 5])
def test_maps_start_where_they_are_said_to(
    maps: Callable[[int], list[Bijection]], starts: dict[str, float], features: int
) -> None:
    """U(±a/√D): of n such numbers the greatest is below a(1 − 20/n)/√D with probability e⁻¹⁰, and none is above a."""
    many = maps(features)
    assert {name for name, _ in many[0].named_parameters()} == starts.keys()
    for name, spread in starts.items():
        values = torch.cat([getattr(map_, name).detach().flatten() for map_ in many]) * math.sqrt(features) / spread
        n = len(values)
        assert 1 - 20 / n < values.max() < 1 + EXACT
        assert 1 - 20 / n < -values.min() < 1 + EXACT
        error = math.sqrt((1 / 5 - 1 / 9) / n)  # of the mean of x²
        assert values.square().mean().item() == pytest.approx(1 / 3, abs=4 * error)


def planar(w: list[float], u: list[float], b: float) -> Planar:
    layer = Planar(len(w))
    with torch.no_grad():
        for parameter, value in zip((layer.w, layer.u, layer.b), (w, u, b), strict=True):
            parameter.copy_(torch.tensor(value))
    return layer


ADVERSARIAL = {
    "wu very negative": ([2.0, -1.0], [-8.0, 9.0], 0.3),
    "wu at -600": ([20.0, 0.0], [-30.0, 1.0], 0.7),
    "wu very positive": ([3.0, 1.0], [40.0, -5.0], -0.2),
    "wu just above -1": ([1.0, 1.0], [-0.6, -0.3], 0.0),
    "w tiny": ([1e-6, -2e-6], [1.0, 2.0], 0.5),
    "w huge": ([300.0, -400.0], [1.0, 0.5], 1.0),
    "w huge, against u": ([300.0, -400.0], [-1.0, 0.5], 1.0),
    "w zero": ([0.0, 0.0], [1.5, -2.0], 0.7),
    "w below the rounding unit": ([1e-18, 0.0], [1.5, -2.0], 0.7),
    "u zero": ([1.0, 2.0], [0.0, 0.0], 0.1),
}
POINTS = torch.tensor([[0.4, -1.2], [3.0, 2.0], [-2.0, 0.9], [0.0, 0.0], [-4.0, 5.0]], dtype=torch.float64)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_planar_holds_at_adversarial_parameters(name: str) -> None:
    layer = planar(*ADVERSARIAL[name])
    y, log_det = layer(POINTS)
    close(log_det, jacobian_log_det(layer, POINTS, None))
    size = 1 + y.abs().max().item()  # the shift by û ~ 1/‖w‖ rounds at its own size
    back, inverse = layer.inverse(y)
    close(back, POINTS, EXACT * size)
    close(log_det + inverse, torch.zeros(len(y)), EXACT * size)

    u, slope = constrain(layer.w, layer.u)
    assert slope > 0
    close(layer.w @ u, slope - 1)
    if (layer.w @ layer.w).item() > 1e-30:
        close(slope, softplus(layer.w @ layer.u))
    for function, point in ((layer, POINTS), (layer.inverse, y.detach())):
        layer.zero_grad()
        point = point.clone().requires_grad_()
        value, log_det = function(point)
        (value.sum() + log_det.sum()).backward()
        assert all(t.grad is not None and t.grad.isfinite().all() for t in (point, *layer.parameters()))


def test_planar_of_no_direction_shifts() -> None:
    layer = planar([0.0, 0.0], [1.5, -2.0], 0.7)
    y, log_det = layer(POINTS)
    close(y, POINTS + math.tanh(0.7) * torch.tensor([1.5, -2.0]))
    close(log_det, torch.zeros(len(y)))


def test_planar_of_zeros_is_the_identity_bit_for_bit() -> None:
    y, log_det = planar([0.0, 0.0], [0.0, 0.0], 0.0)(POINTS)
    assert torch.equal(y, POINTS) and (log_det == 0).all()


def test_a_stack_is_its_layers_one_after_the_other() -> None:
    stack, x = PlanarStack(3, 4), torch.randn(5, 3)
    layers = Compose([Planar(3) for _ in range(4)])
    with torch.no_grad():
        for k, layer in enumerate(layers):
            for name, parameter in layer.named_parameters():
                parameter.copy_(getattr(stack, name)[k])
    for mine, theirs in zip((*stack(x), *stack.inverse(x)), (*layers(x), *layers.inverse(x)), strict=True):
        close(mine, theirs)
    points = stack.path(x)
    for k, layer in enumerate(layers):
        close(points[k + 1], layer(points[k])[0])


def test_planar_is_finite_where_its_determinant_all_but_vanishes() -> None:
    """At wᵀu = −600 and wᵀz + b = 0 the determinant is e^−600, and 1 + (1 − tanh²) m rounds to 0."""
    layer = planar([20.0, 0.0], [-30.0, 1.0], 0.0)
    close(layer(torch.zeros(1, 2))[1], torch.tensor([-600.0]))


@pytest.mark.parametrize("map_", [Planar, Radial])
def test_inverses_have_the_gradient_of_finite_differences(map_: type[Bijection]) -> None:
    layer, y = map_(3), torch.randn(2, 3, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def inverse(y: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        given = {f"bijection.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(Inverse(layer), given, (y,))

    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(inverse, (y, *values))


def test_radial_holds_at_its_centre_and_at_the_edge_of_its_constraint() -> None:
    layer = Radial(2)
    with torch.no_grad():
        layer.raw_beta.fill_(-30.0)
        layer.center.zero_()
    x = torch.tensor([[0.0, 0.0], [1e-3, 0.0], [5.0, 1.0]])
    y, log_det = layer(x)
    back, inverse = layer.inverse(y)
    close(back, x)
    close(log_det + inverse, torch.zeros(3))
    assert log_det.isfinite().all()
    y.sum().backward()
    assert layer.center.grad is not None and layer.center.grad.isfinite().all()


# -------------------------------------------------------------------------------------------- couplings and masks


@pytest.mark.parametrize("name", ["coupling", "coupling-checkerboard", "coupling-channel"])
def test_the_identity_half_passes_bit_for_bit(name: str) -> None:
    bijection, x, _ = built(name)
    y, _ = bijection(x)
    mask = bijection.mask.expand_as(x)
    assert torch.equal(y[mask], x[mask])
    assert not (y[~mask] == x[~mask]).any()
    assert torch.equal(bijection.inverse(y)[0][mask], x[mask])


def test_masks() -> None:
    assert checkerboard_mask((2, 2, 3)).int().tolist() == [[[1, 0, 1], [0, 1, 0]]] * 2
    assert checkerboard_mask((4,), flip=True).int().tolist() == [0, 1, 0, 1]
    assert channel_mask((3, 1, 2)).int().tolist() == [[[1, 1]], [[1, 1]], [[0, 0]]]
    assert channel_mask((2,), flip=True).int().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AffineCoupling(torch.tensor([0.5, 1.0]), dense(2)), "0 and 1"),
        (lambda: AffineCoupling(torch.tensor([float("nan"), 1.0]), dense(2)), "0 and 1"),
        (lambda: AffineCoupling(checkerboard_mask((2,)), nn.Linear(2, 2))(torch.zeros(1, 2)), "conditioner"),
        (lambda: Logit(0.5), "alpha"),
        (lambda: Logit(-0.01), "alpha"),
        (lambda: Logit(float("nan")), "alpha"),
        (lambda: Permutation([0, 0, 1]), "permutation"),
        (lambda: Squeeze()(torch.zeros(1, 1, 3, 4)), "even"),
        (lambda: made_masks(3, [4], [0, 1, 1]), "order"),
        (lambda: made_masks(3, []), "hidden"),
        (lambda: InverseAutoregressive(2, [4], context=1)(torch.zeros(1, 2)), "context"),
        (lambda: PlanarStack(2, 1, context=1)(torch.zeros(1, 2)), "context"),
        (lambda: Flow(Planar(2), [2], "sideways"), "direction"),  # type: ignore[arg-type]
        (lambda: Flow(Planar(3), [2], "data to base").log_prob(torch.zeros(1, 3)), "shape"),
    ],
)
def test_bad_input_is_told(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert isinstance(caught.value, ConfigError)


# ------------------------------------------------------------------------------------------------- autoregressive


@pytest.mark.parametrize("hidden", [[16], [7, 9, 8], [1]])
@pytest.mark.parametrize("order", [None, ORDER])
def test_made_sees_nothing_off_its_order(hidden: list[int], order: tuple[int, ...] | None) -> None:
    made = MADE(5, hidden, order)
    rank = {feature: k for k, feature in enumerate(order or range(5))}
    for part in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda x, part=part: made(x[None])[part][0], torch.randn(5))
        for out in range(5):
            for into in range(5):
                if rank[into] >= rank[out]:
                    assert jacobian[out, into] == 0
                elif hidden != [1]:
                    assert jacobian[out, into] != 0


def test_one_pass_of_maf_and_of_iaf() -> None:
    maf, iaf = MaskedAutoregressive(4, [8]), InverseAutoregressive(4, [8])
    iaf.load_state_dict(maf.state_dict())
    x = torch.randn(3, 4)
    shift, log_scale = maf.made(x)
    close(maf(x)[0], (x - shift) / log_scale.exp())
    close(iaf(x)[0], x * (1 + log_scale.tanh()) + shift)


def test_the_scale_of_iaf_is_bounded_whatever_its_network_says() -> None:
    iaf, x = InverseAutoregressive(3, [8]), torch.randn(5, 3)
    with torch.no_grad():
        iaf.made.layers[-1].bias[3:] = torch.tensor([1000.0, -1000.0, 0.0])
        iaf.made.layers[-1].weight.zero_()
    y, log_det = iaf(x)
    close(y, x * torch.tensor([2.0, 0.0, 1.0]) + iaf.made.layers[-1].bias[:3])
    close(log_det, torch.full((5,), math.log(2) + (math.log(2) - 2000)))


def test_the_context_reaches_every_output() -> None:
    made = MADE(3, [8], context=2)
    x, h = torch.randn(1, 3), torch.randn(2)
    jacobian = torch.autograd.functional.jacobian(lambda h: torch.cat(made(x, h[None]), 1)[0], h)
    assert (jacobian != 0).all()


# --------------------------------------------------------------------------------------------------- normalisation


def test_actnorm_takes_its_start_from_the_first_training_batch_only() -> None:
    layer, x = ActNorm(3), 5 + 3 * torch.randn(16, 3, 2, 2)
    x[:, 2] = 7.0  # a channel that does not vary
    assert torch.equal(layer.eval()(x)[0], x)
    y, _ = layer.train()(x)
    close(y.mean((0, 2, 3)), torch.zeros(3))
    close(y[:, :2].std((0, 2, 3), correction=0), torch.ones(2))
    before = copy.deepcopy(layer.state_dict())
    layer(torch.randn(4, 3, 2, 2))
    restored = ActNorm(3)
    restored.load_state_dict(before)
    restored.train()(torch.randn(4, 3, 2, 2))
    for name, value in before.items():
        assert torch.equal(layer.state_dict()[name], value) and torch.equal(restored.state_dict()[name], value)


def test_batchnorm_normalises_by_the_batch_and_remembers() -> None:
    layer, x = BatchNorm(2, momentum=0.5, eps=0.0), 5 + 3 * torch.randn(64, 2)
    y, _ = layer(x)
    close(y.mean(0), torch.zeros(2))
    close(y.std(0, correction=0), torch.ones(2))
    close(layer.mean, x.mean(0) / 2)
    close(layer.variance, (1 + x.var(0, correction=0)) / 2)


@pytest.mark.parametrize("shape", [(64, 2), (6, 2, 3, 5)])
def test_the_volume_of_batchnorm_in_training_is_that_of_its_batch(shape: tuple[int, ...]) -> None:
    """Not of the running averages: H·W Σ (γ − ½ log(v + ε)), the batch's moments taken for constants."""
    layer, x = BatchNorm(2, eps=0.5), 5 + 3 * torch.randn(shape)
    gamma = torch.tensor([0.7, -0.4])
    with torch.no_grad():
        layer.log_gamma.copy_(gamma)
        layer.beta.fill_(2.0)
    y, log_det = layer(x)
    variance = x.transpose(0, 1).flatten(1).var(1, correction=0)
    expected = math.prod(shape[2:]) * (gamma - 0.5 * (variance + 0.5).log()).sum()
    close(log_det, expected.expand(shape[0]))
    close(((y[1] - y[0]) / (x[1] - x[0])).log().sum(), expected)  # as steep as the map is


def test_conv1x1_starts_as_a_rotation() -> None:
    weight = InvertibleConv1x1(6).weight()
    close(weight @ weight.T, torch.eye(6))


# ------------------------------------------------------------------------------------------------------------ flow


class OneWay(Bijection):
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))


def planar_flow(direction: str, k: int = 4) -> Flow:
    flow = Flow(Compose([Planar(2) for _ in range(k)]), [2], direction)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return flow


def grid_of(half_width: float, n: int) -> tuple[Tensor, float]:
    axis = torch.linspace(-half_width, half_width, n)
    return torch.cartesian_prod(axis, axis), (axis[1] - axis[0]).item() ** 2


@pytest.mark.parametrize("direction", ["data to base", "base to data"])
def test_a_flow_integrates_to_one_and_its_samples_have_its_moments(direction: str) -> None:
    flow = planar_flow(direction)
    grid, cell = grid_of(16.0, 501)
    with torch.no_grad():
        p = flow.log_prob(grid).exp() * cell
    assert abs(p.sum().item() - 1) < 1e-4
    x = flow.sample(40_000)
    for power in (lambda x: x, lambda x: x.square(), lambda x: x[:, :1] * x[:, 1:]):
        expected, values = (p[:, None] * power(grid)).sum(0), power(x)
        error = values.std(0) / math.sqrt(len(x))
        assert ((values.mean(0) - expected).abs() < 4 * error).all()


@pytest.mark.parametrize("direction", ["data to base", "base to data"])
def test_rsample_returns_the_density_of_its_samples_and_their_gradient(direction: str) -> None:
    flow = planar_flow(direction)
    x, log_q = flow.rsample(50, generator=torch.Generator().manual_seed(1))
    close(log_q, flow.log_prob(x), 1e-8)
    assert torch.equal(x, flow.sample(50, generator=torch.Generator().manual_seed(1)))
    (log_q + x.square().sum(1)).mean().backward()
    for parameter in flow.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and (parameter.grad != 0).any()


def test_what_needs_a_missing_inverse_says_so() -> None:
    one_way, x = Compose([Planar(2), OneWay()]), torch.zeros(1, 2)
    to_base, to_data = Flow(one_way, [2], "data to base"), Flow(one_way, [2], "base to data")
    to_base.log_prob(x)
    to_data.sample(1)
    to_data.rsample(1)
    for call in (lambda: to_base.sample(1), lambda: to_base.rsample(1), lambda: to_data.log_prob(x)):
        with pytest.raises(InverseNotAvailable, match="OneWay"):
            call()


def test_temperature_scales_the_base() -> None:
    flow = Flow(Permutation([0, 1]), [2], "base to data")
    one, half = (flow.sample(5, temperature=t, generator=torch.Generator().manual_seed(0)) for t in (1.0, 0.5))
    close(half, one / 2)
