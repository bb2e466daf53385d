"""RealNVP: the reduced conditioner against the full one, likelihoods against quadrature, the way back to pixels."""

from __future__ import annotations

import inspect
import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from genbench import registry
from genbench.bijections.coupling import AffineCoupling, checkerboard_mask
from genbench.errors import ConfigError
from genbench.models.realnvp import GatedResNet, PixelFlow, PixelMlp, RealNvpMultiscale
from genbench.tasks.image_flow import ImageFlow

SMALL: dict[str, dict[str, Any]] = {
    "realnvp": {"width": 16, "couplings": 4},
    "realnvp-conv": {"width": 4, "blocks": 1, "couplings": 2},
    "realnvp-conv-variational": {"width": 4, "blocks": 1, "couplings": 2, "dequantization": "variational"},
    "realnvp-multiscale": {"width": 4, "blocks": 1},
}
SHAPES = [(1, 8, 8), (2, 4, 8)]


pytestmark = pytest.mark.usefixtures("float64")


def untrained(name: str, shape: tuple[int, ...] = (1, 4, 4), **options: Any) -> PixelFlow:
    config = {"name": name.removesuffix("-variational"), **SMALL[name], **options}
    return registry.build("model", config, shape)


def random(name: str, shape: tuple[int, ...] = (1, 4, 4), size: float = 0.2, **options: Any) -> PixelFlow:
    model = untrained(name, shape, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return model


def pixels(count: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(256, (count, *shape)).to(torch.get_default_dtype())


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------------------------------------- conditioners


class FullMlp(nn.Module):
    """All pixels in, log-scale and shift of all pixels out."""

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dims, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2 * dims)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1)).reshape(len(x), -1, *x.shape[2:])


def embedded(reduced: PixelMlp, mask: Tensor) -> FullMlp:
    """The same weights in a network of full width, whose other weights are random and must not matter."""
    full, dims = FullMlp(mask.numel(), reduced.layers[0].out_features), mask.numel()
    shown = [i for i, value in enumerate(mask.flatten().tolist()) if value]
    hidden = [i for i in range(dims) if i not in shown]
    with torch.no_grad():
        full.layers[0].weight[:, shown] = reduced.layers[0].weight
        full.layers[0].bias.copy_(reduced.layers[0].bias)
        full.layers[2].load_state_dict(reduced.layers[2].state_dict())
        for half, rows in enumerate(([*hidden], [dims + i for i in hidden])):
            part = slice(half * len(hidden), (half + 1) * len(hidden))
            full.layers[4].weight[rows] = reduced.layers[4].weight[part]
            full.layers[4].bias[rows] = reduced.layers[4].bias[part]
    return full


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 4, 4)])
def test_the_reduced_mlp_is_the_masked_one_of_full_width(shape: tuple[int, ...], flip: bool) -> None:
    mask = checkerboard_mask(shape, flip=flip)
    reduced = PixelMlp(mask, 16)
    nn.init.normal_(reduced.layers[4].weight)
    nn.init.normal_(reduced.layers[4].bias)
    full = embedded(reduced, mask)
    assert sum(p.numel() for p in reduced.parameters()) < 0.7 * sum(p.numel() for p in full.parameters())

    gradients, inputs = [], torch.randn(5, *shape)
    for conditioner in (reduced, full):
        x = inputs.clone().requires_grad_()
        coupling = AffineCoupling(mask, conditioner)
        y, log_det = coupling(x)
        back, _ = coupling.inverse(y)
        (y.square().sum() + 3 * log_det.sum() + back.sum()).backward()
        gradients.append((y, log_det, x.grad, conditioner.layers[2].weight.grad, coupling.log_scale_bound.grad))
        close(back, x)
    for one, other in zip(*gradients, strict=True):
        close(one, other)


def test_the_gated_network_is_what_its_equations_say() -> None:
    net = GatedResNet(2, 3, 1, context=1)
    nn.init.normal_(net[-1].weight)
    x, context = torch.randn(2, 2, 4, 4), torch.randn(2, 1, 4, 4)

    def both(h: Tensor) -> Tensor:
        return torch.cat([elu(h), elu(-h)], 1)

    first, block, norm, _, last = net
    h = first(torch.cat([x, context], 1))
    convolutions = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size for layer in convolutions] == [(3, 3), (1, 1)]
    out = convolutions[1](both(convolutions[0](both(h))))
    h = h + out[:, :3] / (1 + (-out[:, 3:]).exp())
    mean, variance = h.mean(1, keepdim=True), h.var(1, correction=0, keepdim=True)
    h = (h - mean) / (variance + norm.eps).sqrt()
    close(net(x, context), last(both(h)))


# ------------------------------------------------------------------------------------------------------ all models


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back_again(name: str, shape: tuple[int, ...]) -> None:
    model, x = random(name, shape), pixels(6, shape)
    x[0], x[1] = 0, 255
    z = model.to_base(x)
    assert z[0].numel() == model.dims == math.prod(shape)
    assert torch.equal(z, model.to_base(x))
    assert torch.equal(model.to_data(z), x)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", SHAPES)
def test_samples_are_pixels(name: str, shape: tuple[int, ...]) -> None:
    model = random(name, shape)
    x = model.sample(20, generator=torch.Generator().manual_seed(1))
    assert x.shape == (20, *shape) and x.dtype == torch.float64 and not x.requires_grad
    assert torch.equal(x, x.round()) and x.min() >= 0 and x.max() <= 255
    assert torch.equal(x, model.sample(20, generator=torch.Generator().manual_seed(1)))
    assert len(x.unique()) > 20
    assert len(model.sample(20, temperature=0.0).unique(dim=0)) == 1
    assert model.log_prob(x).shape == (20,)


@pytest.mark.parametrize("name", SMALL)
def test_a_state_dict_carries_all_that_the_model_is(name: str) -> None:
    model, other, x = random(name, (1, 8, 8)), untrained(name, (1, 8, 8)), pixels(3, (1, 8, 8))
    other.load_state_dict(model.state_dict())
    z = other.to_base(x)
    assert torch.equal(z, model.to_base(x))
    assert torch.equal(other.to_data(z), x)
    values = []
    for each in (model, other):
        torch.manual_seed(5)
        values.append(each.log_prob(x))
    assert torch.equal(*values)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("alpha", [0.0, 1e-5])
def test_black_and_white_images_are_finite_in_float32(name: str, alpha: float) -> None:
    torch.set_default_dtype(torch.float32)
    model = untrained(name, (1, 8, 8), alpha=alpha)
    x = torch.stack([torch.zeros(1, 8, 8), torch.full((1, 8, 8), 255.0)]).repeat(50, 1, 1, 1)
    log_p = model.log_prob(x)
    assert log_p.dtype == torch.float32
    bits = -log_p / (model.dims * math.log(2))
    assert bits.isfinite().all() and bits.min() > 8  # N(0, 1) has little mass where black and white are
    (-log_p.mean()).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
    assert torch.equal(model.to_data(model.to_base(x)), x)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name: str) -> None:
    model = random(name, (1, 8, 8))
    (-model.log_prob(pixels(8, (1, 8, 8))).mean()).backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any(), label


@pytest.mark.parametrize("name", SMALL)
def test_a_model_starts_with_the_logit_alone(name: str) -> None:
    """Zero layers at the end of every conditioner: the identity, with u uniform; so z is a logit of the pixels."""
    x = pixels(3, (1, 4, 4))
    model = untrained(name)
    assert model.log_prob(x).isfinite().all()
    p = 1e-5 + (1 - 2e-5) * (x + 0.5) / 256
    z = model.to_base(x).flatten(1).sort().values
    close(z, (p / (1 - p)).log().flatten(1).sort().values)
    _, log_weight = model.dequantization.dequantize(x)
    close(log_weight, torch.full((3,), -16 * math.log(256)), 1e-9)


@pytest.mark.parametrize("name", ["realnvp", "realnvp-conv", "realnvp-conv-variational"])
def test_more_importance_samples_come_closer_to_the_probability(name: str) -> None:
    """From below and monotonically in the mean (Burda et al. 2016, theorem 1), towards log P(x) by quadrature."""
    x = torch.tensor([[[[0.0, 0.0]]]])  # p changes much within a black pixel's cell
    model = random(name, (1, 1, 2))
    axis = torch.linspace(-24.0, 24.0, 200)
    u, weights = axis.sigmoid(), axis.sigmoid() * (-axis).sigmoid() * (axis[1] - axis[0])
    grid, cells = torch.cartesian_prod(u, u).reshape(-1, 1, 1, 2), torch.cartesian_prod(weights, weights).prod(1)
    with torch.no_grad():
        log_cell = model.flow.log_prob((x + grid) / 256) - 2 * math.log(256)
        exact = (log_cell.exp() * cells).sum().log().item()
        task: Any = SimpleNamespace(model=model, device=torch.device("cpu"), seed=1, _batch=500)
        bounds = [ImageFlow._likelihood(task, x.expand(4000, 1, 1, 2), k).value - exact for k in (1, 4, 16)]
    means, errors = zip(*((b.mean().item(), b.std().item() / math.sqrt(len(b))) for b in bounds), strict=True)
    for i in range(2):
        assert means[i] + 4 * math.hypot(errors[i], errors[i + 1]) < means[i + 1]
    assert 0.5 * means[0] < means[2] < 4 * errors[2]
    ratio = bounds[0].exp()
    assert abs(ratio.mean().item() - 1) < 4 * ratio.std().item() / math.sqrt(len(ratio))


def test_the_noise_sees_the_image() -> None:
    model = random("realnvp-conv-variational", size=0.5)
    uniform = torch.full((1, 1, 4, 4), 0.5)
    black, white = (model.dequantization.at(x, uniform)[1] for x in (0 * uniform, 0 * uniform + 255))
    assert (black - white).abs() > 1e-3


# ------------------------------------------------------------------------------------------------------ the schema


def test_the_multiscale_model_is_made_as_described() -> None:
    model = RealNvpMultiscale((1, 8, 8), blocks=2)
    couplings = [module for module in model.modules() if isinstance(module, AffineCoupling)]
    widths = [(tuple(c.mask.shape), c.conditioner[0].in_channels, c.conditioner[0].out_channels) for c in couplings]
    noise, scales = [((1, 8, 8), 2, 16)] * 4, [((1, 8, 8), 1, 32)] * 2 + [((4, 4, 4), 4, 48)] * 2
    assert sorted(widths) == sorted(noise + scales + [((8, 2, 2), 8, 64)] * 4)
    for one, after in itertools.pairwise(couplings):
        if one.mask.shape == after.mask.shape and one.conditional == after.conditional:
            assert torch.equal(one.mask, ~after.mask)
    z = model.to_base(pixels(2, (1, 8, 8)))
    assert z.shape == (2, 64)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("realnvp", "uniform"),
        ("realnvp-conv", "uniform"),
        ("realnvp-conv-variational", "variational"),
        ("realnvp-multiscale", "variational"),
    ],
)
def test_the_protocol(name: str, kind: str) -> None:
    assert untrained(name).protocol == {"dequantization": kind, "alpha": "1e-05"}
    assert untrained(name, alpha=0.05).protocol["alpha"] == "0.05"


def test_the_templates_sizes() -> None:
    defaults = {name: p.default for name, p in registry.parameters(registry.lookup("model", "realnvp")).items()}
    assert defaults == {"couplings": 8, "width": 1024, "alpha": 1e-5}
    positional = [
        p.name
        for p in inspect.signature(registry.lookup("model", "realnvp")).parameters.values()
        if p.kind is not p.KEYWORD_ONLY
    ]
    assert positional == ["shape"]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("realnvp", (2,), "images"),
        ("realnvp-conv", (28, 28), "images"),
        ("realnvp-multiscale", (1, 0, 4), "images"),
        ("realnvp-multiscale", (1, 6, 8), "halves"),
        ("realnvp-multiscale", (1, 8, 6), "halves"),
    ],
)
def test_shapes_that_do_not_fit_are_told(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        untrained(name, shape)
