from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from genbench.errors import ConfigError
from genbench.models.dcgan import Dcgan
from genbench.models.dirac import DiracCritic
from genbench.models.sngan_resnet import SnganResnet
from genbench.regularizers.sn import SpectralNorm


def largest_singular_value(weight: Tensor) -> float:
    """Of [C_out, C_in · k · k]."""
    return torch.linalg.svdvals(weight.detach().double().flatten(1))[0].item()


def as_matrix(layer: nn.Module) -> Tensor:
    """[C_out, C_in, …] of a layer; a transposed convolution's weight is [C_in, C_out, …]."""
    transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    weight: Tensor = layer.weight.detach()
    return weight.transpose(0, 1) if transposed else weight


def layers(critic: nn.Module) -> list[nn.Module]:
    return [module for module in critic.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]


def dcgan_critic(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return Dcgan((3, 32, 32), latent_dim=2, generator_width=1, critic_width=width).critic


IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: nn.Linear(12, 7), torch.zeros(2, 12)),
        (lambda: nn.Linear(5, 1), torch.zeros(2, 5)),
        (lambda: nn.Conv1d(3, 6, 3), torch.zeros(2, 3, 9)),
        (lambda: nn.Conv2d(3, 8, 4, stride=2), torch.zeros(2, 3, 8, 8)),
        (lambda: nn.Conv3d(2, 5, 3), torch.zeros(2, 2, 4, 4, 4)),
        (lambda: nn.ConvTranspose1d(3, 6, 3), torch.zeros(2, 3, 9)),
        (lambda: nn.ConvTranspose2d(3, 8, 4, stride=2), torch.zeros(2, 3, 8, 8)),
        (lambda: nn.ConvTranspose3d(2, 5, 3), torch.zeros(2, 2, 4, 4, 4)),
        (lambda: nn.Embedding(7, 12), torch.zeros(2, dtype=torch.long)),
    ],
)
@pytest.mark.parametrize(("iterations", "passes"), [(1, 20), (20, 1)])
@pytest.mark.parametrize("scale", [0.05, 30.0])
def test_twenty_iterations_find_the_largest_singular_value(
    make: Callable[[], Any], x: Tensor, iterations: int, passes: int, scale: float
) -> None:
    torch.manual_seed(0)
    layer = make()
    with torch.no_grad():
        layer.weight *= scale
    before = as_matrix(layer).clone()
    critic = nn.Sequential(layer)
    SpectralNorm(power_iterations=iterations).prepare(critic)
    # Away from what torch's constructor has found: vectors that know nothing of the weight.
    method = layer.parametrizations.weight[0].method
    method._u.copy_(nn.functional.normalize(torch.randn_like(method._u), dim=0))
    method._v.copy_(nn.functional.normalize(torch.randn_like(method._v), dim=0))
    for _ in range(passes):
        critic(x)
    critic.eval()
    assert largest_singular_value(as_matrix(layer)) == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(as_matrix(layer), before / largest_singular_value(before), rtol=0.01, atol=1e-6)
    assert abs(largest_singular_value(before) - 1) > 0.1


@pytest.mark.parametrize("iterations", [1, 20])
def test_every_layer_of_the_dcgan_critic(iterations: int) -> None:
    critic = dcgan_critic()
    before = [largest_singular_value(layer.weight) for layer in layers(critic)]
    SpectralNorm(power_iterations=iterations).prepare(critic)
    for _ in range(20 // iterations):
        critic(IMAGES)
    critic.eval()
    found = [largest_singular_value(layer.weight) for layer in layers(critic)]
    assert found == pytest.approx([1] * 4, abs=0.01)
    assert max(before) < 0.7  # N(0, 0.02²)


def test_every_layer_of_the_residual_critic() -> None:
    torch.manual_seed(0)
    critic = SnganResnet((3, 32, 32), latent_dim=2, width=4).critic
    SpectralNorm().prepare(critic)
    assert len(layers(critic)) == 11  # 4 × 2 convolutions, two skips, the last linear layer
    for _ in range(20):
        critic(IMAGES)
    critic.eval()
    assert [largest_singular_value(layer.weight) for layer in layers(critic)] == pytest.approx([1] * 11, abs=0.01)


def test_the_norm_holds_while_the_weights_learn() -> None:
    """One power iteration a pass follows an optimizer that moves the weights by several standard deviations."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 1))
    SpectralNorm().prepare(critic)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    start = critic[0].parametrizations.weight.original.detach().clone()
    x = torch.randn(8, 20)
    for _ in range(100):
        optimizer.zero_grad()
        critic(x).square().mean().neg().backward()
        optimizer.step()
    critic.eval()
    assert [largest_singular_value(layer.weight) for layer in layers(critic)] == pytest.approx([1, 1], abs=0.02)
    assert (critic[0].parametrizations.weight.original - start).abs().max() > 3 * start.std()


def test_the_scale_of_the_weights_does_not_matter() -> None:
    """What is left of a layer is its direction: scores and biases' gradients are the same at any scale."""
    small, large = dcgan_critic(), dcgan_critic()
    with torch.no_grad():
        for layer in layers(large):
            layer.weight *= 7
    for critic in (small, large):
        torch.manual_seed(3)
        SpectralNorm().prepare(critic)
    torch.testing.assert_close(small(IMAGES), large(IMAGES), rtol=1e-4, atol=1e-6)


def test_a_linear_critic_has_slope_one() -> None:
    """The point of it: ‖∇C‖ is at most 1 for a single layer, exactly 1 for a single row."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(6, 1))
    SpectralNorm().prepare(critic)
    x = torch.randn(3, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(critic(x).sum(), x)
    torch.testing.assert_close(gradient.norm(dim=1), torch.ones(3))


def test_it_is_no_penalty() -> None:
    regularizer, critic = SpectralNorm(), dcgan_critic(2)
    assert regularizer.penalty(critic, IMAGES, IMAGES) == 0
    assert regularizer.coefficient == 0


def test_evaluation_does_not_iterate() -> None:
    critic = dcgan_critic(2)
    SpectralNorm().prepare(critic)
    critic.eval()
    buffers = copy.deepcopy(dict(critic.named_buffers()))
    scores = critic(IMAGES)
    assert torch.equal(critic(IMAGES), scores)
    assert all(torch.equal(buffer, buffers[key]) for key, buffer in critic.named_buffers())
    critic.train()(IMAGES)
    assert not all(torch.equal(buffer, buffers[key]) for key, buffer in critic.named_buffers())


def test_copies_are_independent() -> None:
    critic = dcgan_critic(2)
    SpectralNorm().prepare(critic)
    critic(IMAGES)
    twin = copy.deepcopy(critic).eval()
    critic.eval()
    scores = critic(IMAGES)
    assert torch.equal(twin(IMAGES), scores)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(torch.randn_like(parameter))
    twin.train()(IMAGES)
    assert torch.equal(critic(IMAGES), scores)
    assert not torch.equal(twin.eval()(IMAGES), scores)


def test_state_dict_round_trip() -> None:
    """Weights and the vectors of the power method: another critic goes on exactly where this one was."""
    first = dcgan_critic(2)
    SpectralNorm().prepare(first)
    for _ in range(3):
        first(IMAGES)
    torch.manual_seed(9)
    second = Dcgan((3, 32, 32), latent_dim=2, generator_width=1, critic_width=2).critic
    SpectralNorm().prepare(second)
    assert not torch.equal(copy.deepcopy(second).eval()(IMAGES), copy.deepcopy(first).eval()(IMAGES))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(2):  # in training, so that the vectors matter
        assert torch.equal(first(IMAGES), second(IMAGES))
    assert torch.equal(first.eval()(IMAGES), second.eval()(IMAGES))


def test_the_power_method_is_exact_within_autocast() -> None:
    """In bfloat16 it would find a norm of two digits."""
    first, second = dcgan_critic(), dcgan_critic()
    for critic in (first, second):
        torch.manual_seed(3)
        SpectralNorm().prepare(critic)
    first(IMAGES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = second(IMAGES)
    assert scores.dtype == torch.bfloat16  # autocast was on
    for (name, exact), found in zip(first.named_buffers(), second.buffers(), strict=True):
        assert torch.equal(found, exact), name
        assert found.dtype == torch.float32


def test_preparing_twice_does_nothing_more() -> None:
    critic = dcgan_critic(2)
    SpectralNorm().prepare(critic)
    state, keys = copy.deepcopy(critic.state_dict()), [name for name, _ in critic.named_parameters()]
    SpectralNorm().prepare(critic)
    assert [name for name, _ in critic.named_parameters()] == keys
    assert state.keys() == critic.state_dict().keys()
    assert all(torch.equal(value, critic.state_dict()[key]) for key, value in state.items())
    for layer in layers(critic):
        assert is_parametrized(layer, "weight")
        assert len(layer.parametrizations.weight) == 1
        assert not is_parametrized(layer, "bias")


def test_the_number_of_parameters_stays() -> None:
    critic = dcgan_critic(2)
    count = sum(parameter.numel() for parameter in critic.parameters())
    SpectralNorm().prepare(critic)
    assert sum(parameter.numel() for parameter in critic.parameters()) == count


def test_a_critic_without_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="no layer to normalize"):
        SpectralNorm().prepare(DiracCritic([1.0, 0.0]))
