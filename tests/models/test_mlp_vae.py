"""The perceptrons of a VAE, written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

from genbench.models.vae import MlpVae

pytestmark = pytest.mark.usefixtures("float64")

SHAPE, LATENTS, WIDTH = (2, 3, 4), 5, 7
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "relu": lambda x: x.clamp(min=0),
}


def make(activation: str, depth: int, posterior: str = "normal") -> MlpVae:
    """Far from its initial values."""
    sizes = {"latent_dim": LATENTS, "width": WIDTH, "depth": depth, "flow_steps": 2}
    model = MlpVae(SHAPE, activation=activation, posterior=posterior, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    return model


def written_out(network: nn.Module, activation: str, depth: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """The last hidden layer and the output."""
    parameters = list(network.parameters())
    assert len(parameters) == 2 * (depth + 1)
    for layer in range(depth):
        x = ACTIVATIONS[activation](F.linear(x, *parameters[2 * layer : 2 * layer + 2]))
        assert x.shape[1] == WIDTH
    return x, F.linear(x, *parameters[-2:])


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_encoder_has_means_and_log_variances_behind_its_hidden_layers(activation: str, depth: int) -> None:
    x = torch.rand(6, *SHAPE)
    model = make(activation, depth)
    code = model.encode(x)
    _, outputs = written_out(model.encoder, activation, depth, x.reshape(6, -1))
    torch.testing.assert_close(code.mu, outputs[:, :LATENTS], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(code.logvar, outputs[:, LATENTS:], rtol=1e-12, atol=1e-12)
    assert code.context is None


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_decoder_has_a_logit_for_every_pixel_behind_its_hidden_layers(activation: str, depth: int) -> None:
    z = torch.randn(6, LATENTS)
    model = make(activation, depth)
    _, outputs = written_out(model.decoder, activation, depth, z)
    torch.testing.assert_close(model.decode(z), outputs.reshape(6, *SHAPE), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_flow_sees_the_last_hidden_layer(activation: str) -> None:
    x = torch.rand(6, *SHAPE)
    model = make(activation, 3, "planar")
    hidden, _ = written_out(model.encoder, activation, 3, x.reshape(6, -1))
    torch.testing.assert_close(model.encode(x).context, hidden, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("learned", [True, False])
def test_the_deviation_of_a_gaussian_likelihood_is_learned_if_asked(learned: bool) -> None:
    torch.manual_seed(0)
    model = MlpVae((1, 4, 4), latent_dim=3, width=8, likelihood="gaussian", sigma=0.2, learn_sigma=learned)
    z, x = torch.randn(5, 3), torch.rand(5, 1, 4, 4)
    log_p = Normal(model.decode(z).sigmoid(), 0.2).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(model.log_likelihood(z, x, None), log_p)
    names = [name for name, _ in model.named_parameters() if "sigma" in name]
    assert len(names) == learned
    if learned:
        (gradient,) = torch.autograd.grad(model.log_likelihood(z, x, None).sum(), model.get_parameter(names[0]))
        assert gradient.abs() > 1
