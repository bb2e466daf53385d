from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, conv_transpose2d, leaky_relu, linear

from genbench import registry
from genbench.errors import ConfigError
from genbench.models import mlp_gan
from genbench.models.dcgan import Dcgan
from genbench.models.gan import GanPair
from genbench.models.mlp_gan import MlpCritic, MlpGan, VirtualBatchNorm
from genbench.models.sngan_resnet import DownBlock, SnganResnet, UpBlock

CIFAR, LARGE, MNIST = (3, 32, 32), (3, 64, 64), (1, 28, 28)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(name: str, shape: tuple[int, ...]) -> GanPair:
    torch.manual_seed(0)
    widths = {"dcgan": {"width": 2}, "sngan-resnet": {"width": 4}}.get(name, {})
    return registry.build("model", {"name": name, "latent_dim": 5, **widths}, shape)


def off_its_start(module: nn.Module) -> Iterator[Tensor]:
    """The parameters, in the order of the layers, drawn anew in float64: no bias is 0, no gain 1."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, 0, 1 / math.sqrt(parameter[0].numel()))
    return module.parameters()


# --- what all pairs have in common ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("dcgan", CIFAR),
        ("dcgan", (1, 32, 32)),
        ("dcgan", LARGE),
        ("sngan-resnet", CIFAR),
        ("sngan-resnet", (1, 32, 32)),
        ("sngan-resnet", LARGE),
        ("mlp-gan", MNIST),
        ("mlp-gan", (2,)),
    ],
)
@pytest.mark.parametrize("rows", [1, 6])
def test_shapes_and_range(name: str, shape: tuple[int, ...], rows: int) -> None:
    pair = small(name, shape)
    latents = pair.sample_latent(rows)
    assert latents.shape == (rows, 5)
    pair.generator.eval()  # a batch of one has no statistics
    with torch.no_grad():
        for layer in pair.generator.modules():
            if isinstance(layer, (nn.Linear, nn.ConvTranspose2d, nn.Conv2d)):
                layer.weight *= 20  # far into the flat parts of tanh
        samples = pair.generator(latents)
    assert samples.shape == (rows, *shape)
    assert samples.abs().max() <= 1
    assert samples.abs().max() > 0.9
    scores = pair.critic(torch.randn(rows, *shape))
    assert scores.shape == (rows,)
    assert len(scores.unique()) == rows


def test_latents_are_standard_normal() -> None:
    torch.manual_seed(0)
    latents = small("dcgan", CIFAR).sample_latent(20_000).double()
    assert latents.mean(0).abs().max() < 4 / math.sqrt(20_000)
    covariance = latents.T @ latents / 20_000
    assert (covariance - torch.eye(5)).abs().max() < 5 * math.sqrt(2 / 20_000)


@pytest.mark.parametrize("name", ["dcgan", "sngan-resnet", "mlp-gan"])
def test_every_critic_scores_samples_one_by_one(name: str) -> None:
    """No layer of a critic looks at the batch: penalties are per sample."""
    shape = MNIST if name == "mlp-gan" else CIFAR
    critic = small(name, shape).critic.double()
    samples = torch.randn(4, *shape, dtype=torch.float64)
    torch.testing.assert_close(critic(samples), torch.cat([critic(row) for row in samples.split(1)]))


@pytest.mark.parametrize("name", ["dcgan", "sngan-resnet"])
@pytest.mark.parametrize("shape", [MNIST, (3, 128, 128), (3, 48, 48), (3, 64, 32), (3, 32, 28), (2,)])
def test_images_of_another_size_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=f"model={name} is for images of 32 × 32 or 64 × 64"):
        small(name, shape)


# --- DCGAN ------------------------------------------------------------------------------------------------


def test_dcgan_parameters() -> None:
    """100 – 512 × 4² – 256 × 8² – 128 × 16² – 3 × 32² and back, 4 × 4 kernels (report 001, problem 3)."""
    pair = Dcgan(CIFAR)
    generator = 100 * 512 * 16 + 512 * 256 * 16 + 256 * 128 * 16 + (128 * 3 * 16 + 3)
    norms = 2 * 512 + 2 * 256 + 2 * 128
    critic = (3 * 128 * 16 + 128) + (128 * 256 * 16 + 256) + (256 * 512 * 16 + 512) + (512 * 16 + 1)
    assert count(pair.generator) == generator + norms == 3_448_579
    assert count(pair.critic) == critic == 2_636_673


def test_dcgan_parameters_at_64() -> None:
    """100 – 1024 × 4² – 512 × 8² – 256 × 16² – 128 × 32² – 3 × 64² (Radford et al. 2016, figure 1), and back."""
    pair = Dcgan(LARGE)
    generator = 100 * 1024 * 16 + 1024 * 512 * 16 + 512 * 256 * 16 + 256 * 128 * 16 + (128 * 3 * 16 + 3)
    norms = 2 * (1024 + 512 + 256 + 128)
    critic = (3 * 128 * 16 + 128) + (128 * 256 * 16 + 256) + (256 * 512 * 16 + 512) + (512 * 1024 * 16 + 1024)
    assert count(pair.generator) == generator + norms
    assert count(pair.critic) == critic + (1024 * 16 + 1)


def test_dcgan_widths_of_its_players() -> None:
    both, own = Dcgan(CIFAR, width=4), Dcgan(CIFAR, width=9, generator_width=4, critic_width=4)
    assert count(both.generator) == count(own.generator)
    assert count(both.critic) == count(own.critic)
    assert count(Dcgan(CIFAR, width=4, critic_width=2).generator) == count(both.generator)
    assert count(Dcgan(CIFAR, width=4, critic_width=2).critic) < count(both.critic)


@pytest.mark.parametrize(
    ("shape", "generator", "critic"),
    [
        (
            CIFAR,
            [(8, 4, 4), (4, 8, 8), (2, 16, 16), (3, 32, 32)],
            [(2, 16, 16), (4, 8, 8), (8, 4, 4), (1, 1, 1)],
        ),
        (
            LARGE,
            [(16, 4, 4), (8, 8, 8), (4, 16, 16), (2, 32, 32), (3, 64, 64)],
            [(2, 32, 32), (4, 16, 16), (8, 8, 8), (16, 4, 4), (1, 1, 1)],
        ),
    ],
)
def test_dcgan_sizes_between_its_layers(
    shape: tuple[int, ...], generator: list[tuple[int, ...]], critic: list[tuple[int, ...]]
) -> None:
    pair = small("dcgan", shape)
    sizes: dict[str, list[tuple[int, ...]]] = {"generator": [], "critic": []}
    for player, network in (("generator", pair.generator), ("critic", pair.critic)):
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                layer.register_forward_hook(lambda _, __, y, p=player: sizes[p].append(tuple(y.shape[1:])))
    pair.critic(pair.generator(pair.sample_latent(2)))
    assert sizes == {"generator": generator, "critic": critic}


@pytest.mark.parametrize(("shape", "stages"), [(CIFAR, 3), (LARGE, 4)])
def test_dcgan_generator_is_that_of_the_paper(shape: tuple[int, ...], stages: int) -> None:
    """In training, written out: batch normalization, ReLU and a convolution that doubles the size, then tanh."""
    generator = small("dcgan", shape).generator
    p, z = off_its_start(generator), torch.randn(6, 5, dtype=torch.float64)
    x = conv_transpose2d(z.view(6, 5, 1, 1), next(p))
    for stage in range(1, stages + 1):
        x = batch_norm(x, None, None, next(p), next(p), training=True).clamp_min(0)
        x = conv_transpose2d(x, next(p), next(p) if stage == stages else None, stride=2, padding=1)
    torch.testing.assert_close(generator(z), x.tanh())
    assert not list(p)


@pytest.mark.parametrize(("shape", "stages"), [(CIFAR, 3), (LARGE, 4)])
def test_dcgan_critic_is_that_of_the_paper(shape: tuple[int, ...], stages: int) -> None:
    """Written out: convolutions that halve the size, each with a LeakyReLU of 0.2, and one over all that is left."""
    critic = small("dcgan", shape).critic
    p, images = off_its_start(critic), torch.randn(6, *shape, dtype=torch.float64)
    x = images
    for _ in range(stages):
        x = leaky_relu(conv2d(x, next(p), next(p), stride=2, padding=1), 0.2)
    torch.testing.assert_close(critic(images), conv2d(x, next(p), next(p)).view(6))
    assert not list(p)


def test_dcgan_normalizes_the_generator_alone() -> None:
    pair = Dcgan(CIFAR, width=8)
    assert [layer.num_features for layer in pair.generator.modules() if isinstance(layer, nn.BatchNorm2d)] == [
        32,
        16,
        8,
    ]
    assert not [layer for layer in pair.critic.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_dcgan_starts_as_published() -> None:
    """Weights N(0, 0.02²), gains N(1, 0.02²), biases 0 (Radford et al. 2016, section 4)."""
    torch.manual_seed(0)
    pair = Dcgan(CIFAR, width=32)
    for layer in pair.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            values = layer.weight.detach() - float(isinstance(layer, nn.BatchNorm2d))
            error = 4 * 0.02 / math.sqrt(values.numel())
            assert values.mean().item() == pytest.approx(0, abs=error)
            assert values.std().item() == pytest.approx(0.02, abs=error)
            assert layer.bias is None or not layer.bias.any()


# --- SNGAN ------------------------------------------------------------------------------------------------


def test_sngan_parameters() -> None:
    """Table 4 of Miyato et al. 2018 at 256 and 128 channels; as counted in kwotsin/mimicry."""
    pair = SnganResnet(CIFAR)
    norm, conv, skip = 2 * 256, 256 * 256 * 9 + 256, 256 * 256 + 256
    generator = (128 * 4096 + 4096) + 3 * (2 * norm + 2 * conv + skip) + norm + (256 * 3 * 9 + 3)
    conv, skip = 128 * 128 * 9 + 128, 128 * 128 + 128
    first = (3 * 128 * 9 + 128) + conv + (3 * 128 + 128)
    critic = first + (2 * conv + skip) + 2 * (2 * conv) + (128 + 1)
    assert count(pair.generator) == generator == 4_276_739
    assert count(pair.critic) == critic == 1_053_825


def test_sngan_parameters_at_64() -> None:
    """The authors' code: 1024 × 4² – 512 – 256 – 128 – 64 × 64², and 64 × 32² – 128 – 256 – 512 – 1024 × 2²."""
    pair = SnganResnet(LARGE)

    def conv(inputs: int, outputs: int, kernel: int = 3) -> int:
        return inputs * outputs * kernel**2 + outputs

    falling = [1024, 512, 256, 128, 64]
    generator = 128 * 1024 * 16 + 1024 * 16 + 2 * 64 + conv(64, 3)
    for a, b in itertools.pairwise(falling):
        generator += 2 * a + conv(a, b) + 2 * b + conv(b, b) + conv(a, b, 1)
    critic = conv(3, 64) + conv(64, 64) + conv(3, 64, 1) + 1024 + 1
    for a, b in itertools.pairwise(falling[::-1]):
        critic += conv(a, a) + conv(a, b) + conv(a, b, 1)
    assert count(pair.generator) == generator
    assert count(pair.critic) == critic


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (CIFAR, [(4, 8, 8), (4, 16, 16), (4, 32, 32), (2, 16, 16), (2, 8, 8), (2, 8, 8), (2, 8, 8)]),
        (
            LARGE,
            [
                *((8, 8, 8), (4, 16, 16), (2, 32, 32), (1, 64, 64)),
                *((1, 32, 32), (2, 16, 16), (4, 8, 8), (8, 4, 4), (16, 2, 2)),
            ],
        ),
    ],
)
def test_sngan_sizes_between_its_blocks(shape: tuple[int, ...], expected: list[tuple[int, ...]]) -> None:
    pair = small("sngan-resnet", shape)
    sizes: list[tuple[int, ...]] = []
    for layer in pair.modules():
        if isinstance(layer, (UpBlock, DownBlock)):
            layer.register_forward_hook(lambda _, __, y: sizes.append(tuple(y.shape[1:])))
    pair.critic(pair.generator(pair.sample_latent(2)))
    assert sizes == expected


@pytest.mark.parametrize(("shape", "channels"), [(CIFAR, 4), (LARGE, 16)])
def test_sngan_generator_begins_and_ends_as_in_the_paper(shape: tuple[int, ...], channels: int) -> None:
    """Around its blocks, in training: a linear layer; batch normalization, ReLU, convolution, tanh."""
    generator = small("sngan-resnet", shape).generator
    off_its_start(generator)
    z = torch.randn(6, 5, dtype=torch.float64)
    x = generator.blocks(linear(z, generator.linear.weight, generator.linear.bias).view(6, channels, 4, 4))
    x = batch_norm(x, None, None, generator.norm.weight, generator.norm.bias, training=True).clamp_min(0)
    expected = conv2d(x, generator.last.weight, generator.last.bias, padding=1).tanh()
    torch.testing.assert_close(generator(z), expected)


def test_sngan_sums_over_positions() -> None:
    """Global sum pooling, not mean: the last layer sees the sum of 8 × 8 features."""
    critic = small("sngan-resnet", CIFAR).critic.double()
    x = torch.randn(3, *CIFAR, dtype=torch.float64)
    features = critic.blocks(x).clamp_min(0).flatten(2).sum(2)
    torch.testing.assert_close(critic(x), features @ critic.last.weight[0] + critic.last.bias)


def test_sngan_starts_as_in_the_authors_code() -> None:
    """Glorot's uniform bound √(6 / (in + out)), times √2 for the 3 × 3 convolutions inside the blocks."""
    torch.manual_seed(0)
    pair = SnganResnet(CIFAR, width=32)
    wide = set()
    for name, layer in pair.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            area = layer.weight[0, 0].numel()
            bound = math.sqrt(6 / (area * (layer.weight.shape[0] + layer.weight.shape[1])))
            wide |= {name} if layer.weight.abs().max() > 1.05 * bound else set()
            bound *= math.sqrt(2) if name in wide else 1
            assert bound * (0.8 if layer.weight.numel() < 100 else 0.95) < layer.weight.abs().max() <= bound
            assert not layer.bias.any()
    blocks = [f"generator.blocks.{k}" for k in range(3)] + [f"critic.blocks.{k}" for k in range(4)]
    assert wide == {f"{block}.{conv}" for block in blocks for conv in ("conv1", "conv2")}


def up_by_two(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_up_block_upsamples_first() -> None:
    """In the paper's order: both paths upsample before they convolve."""
    torch.manual_seed(0)
    block = UpBlock(6, 4)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn_like(parameter))
    x = 2 + 3 * torch.randn(4, 6, 5, 5)
    n1, n2, c1, c2, skip = block.norm1, block.norm2, block.conv1, block.conv2, block.skip
    h = batch_norm(x, None, None, n1.weight, n1.bias, training=True)
    h = conv2d(up_by_two(h.clamp_min(0)), c1.weight, c1.bias, padding=1)
    h = batch_norm(h, None, None, n2.weight, n2.bias, training=True)
    h = conv2d(h.clamp_min(0), c2.weight, c2.bias, padding=1)
    expected = h + conv2d(up_by_two(x), skip.weight, skip.bias)
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(
    ("inputs", "first", "down"), [(3, True, True), (6, False, True), (6, False, False), (3, False, False)]
)
def test_down_block_convolves_first(inputs: int, first: bool, down: bool) -> None:
    """In the paper's order: both paths convolve before they pool."""
    torch.manual_seed(0)
    block = DownBlock(inputs, 6, first=first, down=down).double()
    x = torch.randn(4, inputs, 8, 8, dtype=torch.float64)
    h = x if first else x.clamp_min(0)
    h = conv2d(h, block.conv1.weight, block.conv1.bias, padding=1)
    h = conv2d(h.clamp_min(0), block.conv2.weight, block.conv2.bias, padding=1)
    shortcut = x
    if down or inputs != 6:
        shortcut = conv2d(x, block.skip.weight, block.skip.bias)
    else:
        assert count(block.skip) == 0
    expected = avg_pool2d(h + shortcut, 2) if down else h + shortcut
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-10)


# --- the MLP pair and virtual batch normalization ------------------------------------------------------------


def test_mlp_parameters() -> None:
    """100–128–256–512–1024–784, normalized from 256 on, and 784–512–256–1 (reports 002 and 004)."""
    sizes = [100, 128, 256, 512, 1024, 784]
    generator = sum(a * b + b for a, b in itertools.pairwise(sizes)) + 2 * (256 + 512 + 1024)
    critic = 784 * 512 + 512 + 512 * 256 + 256 + 256 + 1
    for normalization in ("batch", "virtual"):
        pair = MlpGan(MNIST, normalization=normalization)
        assert count(pair.generator) == generator == 1_510_032
        assert count(pair.critic) == critic == 533_505


def test_mlp_generator_is_that_of_the_reports() -> None:
    """In training, written out: five linear layers, LeakyReLU of 0.2, all hidden ones but the first normalized."""
    generator = MlpGan((2, 3), latent_dim=5).generator
    p, z = off_its_start(generator), torch.randn(6, 5, dtype=torch.float64)
    x = leaky_relu(linear(z, next(p), next(p)), 0.2)
    for _ in range(3):
        x = linear(x, next(p), next(p))
        x = leaky_relu(batch_norm(x, None, None, next(p), next(p), training=True), 0.2)
    torch.testing.assert_close(generator(z), linear(x, next(p), next(p)).tanh().view(6, 2, 3))
    assert not list(p)


@pytest.mark.parametrize(
    ("make", "hidden"), [(lambda: MlpGan((2, 3)).critic, 2), (lambda: MlpCritic((2, 3), width=8, depth=3).critic, 3)]
)
def test_mlp_critic_is_that_of_the_reports(make: Callable[[], nn.Module], hidden: int) -> None:
    """Written out: linear layers, LeakyReLU of 0.2 after each but the last."""
    critic = make()
    p, samples = off_its_start(critic), torch.randn(6, 2, 3, dtype=torch.float64)
    x = samples.view(6, 6)
    for _ in range(hidden):
        x = leaky_relu(linear(x, next(p), next(p)), 0.2)
    torch.testing.assert_close(critic(samples), linear(x, next(p), next(p)).view(6))
    assert not list(p)


def test_mlp_critic_alone() -> None:
    model = MlpCritic((2,), width=16, depth=3)
    assert count(model) == (2 * 16 + 16) + 2 * (16 * 16 + 16) + 17
    assert model.critic(torch.randn(5, 2)).shape == (5,)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_in_training_alone(training: bool) -> None:
    torch.manual_seed(0)
    pair = MlpGan((4,), dropout=0.5).train(training)
    rates = [layer.p for layer in pair.modules() if isinstance(layer, nn.Dropout)]
    assert rates == [0.5, 0.5]
    assert not [layer for layer in pair.generator.modules() if isinstance(layer, nn.Dropout)]
    x = torch.randn(3, 4)
    assert torch.equal(pair.critic(x), pair.critic(x)) is not training


def test_no_dropout_unless_wanted() -> None:
    pair, x = MlpGan((4,)).train(), torch.randn(3, 4)
    assert torch.equal(pair.critic(x), pair.critic(x))


def virtual_norm(features: int = 4, rows: int = 5) -> VirtualBatchNorm:
    torch.manual_seed(0)
    norm = VirtualBatchNorm(features, rows).double()
    with torch.no_grad():
        norm.weight.copy_(torch.randn(features))
        norm.bias.copy_(torch.randn(features))
    return norm


def test_virtual_batch_norm_is_its_formula() -> None:
    """Row by row: the statistics of the reference batch and that row (Salimans et al. 2016, section 3.4)."""
    norm = virtual_norm()
    x = 3 + 2 * torch.randn(5 + 6, 4, dtype=torch.float64)
    reference, rows = x[:5], x[5:]
    expected = []
    for row in rows:
        together = torch.cat([reference, row[None]])
        variance, mean = torch.var_mean(together, 0, correction=0)
        expected.append((row - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias)
    torch.testing.assert_close(norm(x)[5:], torch.stack(expected), rtol=1e-10, atol=1e-10)


def test_virtual_batch_norm_normalizes_the_reference_by_itself() -> None:
    norm = virtual_norm()
    x = 3 + 2 * torch.randn(5 + 6, 4, dtype=torch.float64)
    plain = (norm(x)[:5] - norm.bias) / norm.weight
    variance, mean = torch.var_mean(plain, 0, correction=0)
    torch.testing.assert_close(mean, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    stored = torch.var(x[:5], 0, correction=0)
    torch.testing.assert_close(variance, stored / (stored + norm.eps))  # 1, but for eps
    torch.testing.assert_close(norm(x)[:5], norm(torch.cat([x[:5], -x[5:]]))[:5], rtol=0, atol=0)


@pytest.mark.parametrize("mean", [0.0, 3.0, 30.0])
def test_virtual_batch_norm_keeps_its_statistics_in_float32(mean: float) -> None:
    """Of activations in bf16, as autocast hands them over: E x² − (E x)² would have no digits left."""
    torch.manual_seed(0)
    norm = VirtualBatchNorm(6, 64)
    x = (mean + torch.randn(64 + 32, 6)).bfloat16()
    found = norm(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, norm.double()(x.double()).float(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("normalization", ["virtual", "batch"])
def test_rows_do_not_depend_on_one_another_with_virtual_batch_norm(normalization: str) -> None:
    """Unlike with batch normalization, which is what it is for."""
    torch.manual_seed(0)
    generator = MlpGan((3, 2), latent_dim=4, normalization=normalization).generator.double().train()
    latents = torch.randn(6, 4, dtype=torch.float64)
    others = torch.cat([latents[:1], 5 * torch.randn(3, 4, dtype=torch.float64)])
    difference = (generator(latents)[0] - generator(others)[0]).abs().max().item()
    if normalization == "virtual":
        assert difference < 1e-12
        alone = torch.cat([generator(row) for row in latents.split(1)])
        torch.testing.assert_close(alone, generator(latents))
    else:
        assert difference > 1e-3


def test_virtual_batch_norm_has_no_other_mode() -> None:
    """The reference batch belongs to the model: evaluation computes what training did, a copy the same."""
    pair = MlpGan((3, 2), latent_dim=4, normalization="virtual")
    latents = pair.sample_latent(6)
    samples = pair.generator(latents)
    assert torch.equal(pair.eval().generator(latents), samples)
    torch.manual_seed(1)
    other = MlpGan((3, 2), latent_dim=4, normalization="virtual")
    assert not torch.allclose(other.generator(latents), samples)
    other.load_state_dict(copy.deepcopy(pair.state_dict()))
    assert torch.equal(other.generator(latents), samples)


def test_virtual_batch_norm_end_to_end() -> None:
    """Gradients reach every parameter, through the reference batch as well, and are those of differences."""
    torch.manual_seed(0)
    pair = MlpGan((2,), latent_dim=3, normalization="virtual").double()
    latents = torch.randn(5, 3, dtype=torch.float64)
    pair.critic(pair.generator(latents)).mean().backward()
    for parameter in pair.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    assert all(parameter.grad.any() for parameter in pair.generator.parameters())
    weight = pair.generator.layers[0].weight
    slope, step = weight.grad[3, 1].item(), 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[3, 1] += sign * step
            values.append(pair.critic(pair.generator(latents)).mean().item())
            weight[3, 1] -= sign * step
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-10)
    assert pair.generator.reference.shape == (mlp_gan.REFERENCE_ROWS, 3)
    assert "generator.reference" in pair.state_dict()
