from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.errors import ConfigError
from genbench.models.conv_vae import ConvDecoder, ConvEncoder, ResidualBlock

MNIST = (1, 28, 28)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("shape", "latents"), [(MNIST, 49), ((3, 32, 24), 48)])
def test_shapes(shape: tuple[int, ...], latents: int) -> None:
    encoder, decoder = ConvEncoder(shape, 4, 2), ConvDecoder(shape, 4, 2)
    mu, logvar, context = encoder(torch.rand(5, *shape))
    assert mu.shape == logvar.shape == (5, latents) and context is None
    assert decoder(mu).shape == (5, *shape)
    assert encoder.latent_dim == decoder.latent_dim == latents


def test_the_context_is_the_rest_of_the_outputs() -> None:
    encoder, x = ConvEncoder(MNIST, 4, 1, context=3), torch.rand(5, *MNIST)
    outputs = encoder.last(encoder.blocks(torch.relu(encoder.first(x))))
    mu, logvar, context = encoder(x)
    assert context is not None and context.shape == (5, 3 * 49)
    together = torch.cat([mu, logvar, context], dim=1)
    assert torch.equal(together, outputs.reshape(5, 5 * 49))
    assert len(mu.unique()) > 49


def test_networks_are_those_of_the_report() -> None:
    """The same functions written out."""
    encoder, decoder = ConvEncoder(MNIST, 3, 2).double(), ConvDecoder(MNIST, 3, 2).double()
    with torch.no_grad():
        for network in (encoder, decoder):
            for parameter in network.parameters():
                parameter.normal_(0, 0.3)
    e, d = dict(encoder.named_parameters()), dict(decoder.named_parameters())

    def block(h: Tensor, parameters: dict[str, nn.Parameter], i: int) -> Tensor:
        p = {name.removeprefix(f"blocks.{i}."): value for name, value in parameters.items()}
        inner = F.conv2d(h.clamp(min=0), p["first.weight"], p["first.bias"], padding=1)
        return h + F.conv2d(inner.clamp(min=0), p["second.weight"], p["second.bias"], padding=1)

    x = torch.rand(2, *MNIST, dtype=torch.float64)
    h = F.conv2d(x, e["first.weight"], stride=4, padding=3).clamp(min=0)
    assert e["first.weight"].shape == (3, 1, 7, 7)
    h = F.conv2d(block(block(h, e, 0), e, 1), e["last.weight"], e["last.bias"], padding=1)
    mu, logvar, _ = encoder(x)
    torch.testing.assert_close(torch.stack([mu, logvar], dim=1), h.flatten(2))

    h = (mu @ d["first.weight"].T).clamp(min=0).view(2, 3, 7, 7)
    h = block(block(h, d, 0), d, 1)
    squares = torch.einsum("bchw,cij->bhiwj", h, d["last.weight"][:, 0]).reshape(2, 1, 28, 28)
    torch.testing.assert_close(decoder(mu), squares + d["bias"])
    assert len(e) == 1 + 2 * 4 + 2 and len(d) == 1 + 2 * 4 + 1 + 1


@pytest.mark.parametrize("network", [ConvEncoder, ConvDecoder])
def test_initial_values(network: type[nn.Module]) -> None:
    for parameter in network(MNIST, 16, 3).parameters():
        if parameter.dim() == 1 or parameter.shape == MNIST:
            assert (parameter == 0).all()
        else:
            assert abs(parameter.std().item() / 0.01 - 1) < 5 / (2 * parameter.numel()) ** 0.5


@pytest.mark.parametrize("channels", [32, 128])
@pytest.mark.parametrize("network", [ConvEncoder, ConvDecoder])
def test_fifty_one_blocks_pass_signals_and_gradients_on(network: type[nn.Module], channels: int) -> None:
    model = network(MNIST, channels, 51)
    sizes: list[float] = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, inputs, output: sizes.append(output.norm().item()))
    outputs = model(torch.rand(4, *MNIST).round() if network is ConvEncoder else torch.randn(4, 49))
    output = torch.cat(outputs[:2]) if network is ConvEncoder else outputs
    assert output.isfinite().all() and output.std() > 0
    output.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    ends = [gradient_norm(model.blocks[i]) for i in (0, -1)]
    assert len(sizes) == 51
    assert 0.5 < sizes[-1] / sizes[0] < 2
    assert 0.5 < ends[0] / ends[1] < 2


def gradient_norm(module: nn.Module) -> float:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm().item()


def test_a_block_keeps_what_it_gets() -> None:
    block, x = ResidualBlock(nn.Linear(3, 4), nn.Linear(4, 3)), torch.randn(2, 3)
    nn.init.zeros_(block.second.weight)
    nn.init.zeros_(block.second.bias)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("network", [ConvEncoder, ConvDecoder])
@pytest.mark.parametrize("shape", [(1, 28, 30), (784,)])
def test_other_sides_are_refused(network: type[nn.Module], shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="multiples of 4"):
        network(shape, 2, 1)
