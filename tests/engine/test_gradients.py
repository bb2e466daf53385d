from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genbench.engine.gradients import Gradients
from genbench.errors import ConfigError


def test_they_are_those_of_backward() -> None:
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(7, 5)

    def objective(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = network(x).square().mean()
        return loss, {"loss": loss}

    loss, _ = objective(x)
    loss.backward()
    expected = [parameter.grad for parameter in network.parameters()]
    values = Gradients(objective, network.parameters())(x)
    assert values["loss"] == loss
    assert not values["loss"].requires_grad
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_fused_optimizer_takes_a_transposed_gradient_for_what_it_is() -> None:
    """Fused kernels go through memory whatever the strides, so every gradient is laid out like its parameter."""
    weight = nn.Parameter(torch.zeros(3, 5))
    target = torch.randn(5, 3)

    def objective(target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return (weight.t() * target).sum(), {}

    (raw,) = torch.autograd.grad(objective(target)[0], weight)
    assert raw.stride() != weight.stride()  # or this test shows nothing
    for optimizer in (torch.optim.SGD([weight], lr=1.0, fused=True), torch.optim.SGD([weight], lr=1.0, fused=False)):
        with torch.no_grad():
            weight.zero_()
        Gradients(objective, [weight])(target)
        optimizer.step()
        torch.testing.assert_close(weight.detach(), -target.t())


def test_what_this_pytorch_cannot_compile_is_told() -> None:
    """Versions differ in what they trace."""
    weight = nn.Parameter(torch.ones(3))

    def objective(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        torch._dynamo.graph_break()
        return (x * weight).sum(), {}

    with pytest.raises(ConfigError, match=r"cannot compile[^\n]*\n.*compile=false"):
        Gradients(objective, [weight], compile_for=2)(torch.ones(2, 3))
