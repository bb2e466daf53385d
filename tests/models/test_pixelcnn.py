"""Both PixelCNNs, in float64: what a pixel sees by autograd, probabilities by enumeration, samples by naive ones."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from genbench import registry
from genbench.errors import ConfigError
from genbench.models.autoregressive import AutoregressiveImages
from genbench.models.pixelcnn import MaskedConv2d, PixelCnn
from genbench.models.pixelcnn_gated import GatedPixelCnn

MODELS = ("pixelcnn", "pixelcnn-gated")
SIZES = [(1, 1), (1, 6), (6, 1), (3, 3), (4, 7), (7, 5)]
EXACT = 1e-10


pytestmark = pytest.mark.usefixtures("float64")


def built(name: str, size: tuple[int, int], channels: int = 6, blocks: int = 2) -> AutoregressiveImages:
    """Far from its initial values, biases included."""
    model = registry.build("model", {"name": name, "channels": channels, "blocks": blocks}, (1, *size))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    return model


CLASSES = 3


def conditional(size: tuple[int, int], channels: int = 6, blocks: int = 2) -> AutoregressiveImages:
    settings = {"name": "pixelcnn-gated", "channels": channels, "blocks": blocks, "conditional": True}
    model = registry.build("model", settings, (1, *size), CLASSES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    return model


def all_images(height: int, width: int) -> Tensor:
    pixels = torch.tensor(list(itertools.product([0.0, 1.0], repeat=height * width)))
    return pixels.view(-1, 1, height, width)


def naive_sample(model: AutoregressiveImages, uniforms: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """One pass of the whole network for every pixel."""
    images = torch.zeros_like(uniforms)
    for row, column in itertools.product(*map(range, uniforms.shape[2:])):
        with torch.no_grad():
            probability = torch.sigmoid(model(images) + bias)
        images[:, :, row, column] = (uniforms < probability)[:, :, row, column].double()
    return images


# ---------------------------------------------------------------------------------------------- given a class


@pytest.mark.parametrize("size", SIZES)
def test_given_any_class_a_logit_depends_on_no_later_pixel(size: tuple[int, int]) -> None:
    model, pixels = conditional(size), size[0] * size[1]
    image = torch.rand(1, 1, *size)
    for k in range(CLASSES):
        label = torch.tensor([k])
        jacobian = torch.autograd.functional.jacobian(lambda x, label=label: model(x, label), image)
        assert (jacobian.view(pixels, pixels).triu() == 0).all()
    assert model.receptive_field(*(n // 2 for n in size)).sum() == size[0] // 2 * size[1] + size[1] // 2


def test_given_any_class_probabilities_of_all_images_sum_to_1() -> None:
    model, images = conditional((3, 3)), all_images(3, 3)
    log_probs = [model.log_prob(images, torch.full((512,), k)) for k in range(CLASSES)]
    for log_prob in log_probs:
        assert abs(log_prob.exp().sum().item() - 1) < EXACT
    assert (log_probs[0] - log_probs[1]).abs().max() > 0.1


@pytest.mark.parametrize("size", [(1, 6), (6, 1), (11, 10)])
def test_cached_sampling_of_classes_is_naive_sampling_bit_for_bit(size: tuple[int, int]) -> None:
    model, uniforms = conditional(size, channels=4, blocks=3), torch.rand(7, 1, *size)
    labels = torch.tensor([2, 0, 1, 1, 0, 2, 2])
    images = torch.zeros_like(uniforms)
    for row, column in itertools.product(*map(range, size)):
        with torch.no_grad():
            probability = torch.sigmoid(model(images, labels))
        images[:, :, row, column] = (uniforms < probability)[:, :, row, column].double()
    assert torch.equal(model.sample(None, labels, uniforms=uniforms), images)
    assert torch.equal(model.sample(None, labels[:1], uniforms=uniforms[:1]), images[:1])


def test_a_constant_map_adds_to_the_biases_of_every_gate() -> None:
    """Eq. 5 of arXiv 1606.05328 becomes eq. 4: the same network with V s in the biases before the gates."""
    model, x = conditional((4, 5)), torch.rand(2, 1, 4, 5).round()
    ordinary = built("pixelcnn-gated", (4, 5))
    with torch.no_grad():
        model.maps.copy_(model.maps[:, :, :1, :1].expand_as(model.maps))
    for k in range(CLASSES):
        own = ("maps", "from_map")
        state = {name: value.clone() for name, value in model.state_dict().items() if not any(o in name for o in own)}
        for name, value in model.state_dict().items():
            if name.endswith("from_map.weight"):
                block = name.removesuffix("from_map.weight")
                vertical, horizontal = (value[:, :, 0, 0] @ model.maps[k, :, 0, 0]).detach().chunk(2)
                state[f"{block}vertical.bias"] += vertical
                # The horizontal gate sees the vertical stack before its class is added.
                across = state[f"{block}across.weight"][:, :, 0, 0]
                state[f"{block}across.bias"] += horizontal - across @ vertical
        ordinary.load_state_dict(state)
        found = model(x, torch.full((2,), k))
        torch.testing.assert_close(found, ordinary(x), rtol=EXACT, atol=EXACT)


def test_a_map_acts_where_it_is() -> None:
    """In a network of one layer, the map at a pixel changes the logit of that pixel alone."""
    model, x = conditional((4, 5), blocks=1), torch.rand(1, 1, 4, 5).round()
    labels = torch.tensor([1])
    before = model(x, labels)
    with torch.no_grad():
        model.maps[1, :, 2, 3] += 1
    changed = torch.zeros(4, 5, dtype=torch.bool)
    changed[2, 3] = True
    assert torch.equal((model(x, labels) != before)[0, 0], changed)


def test_every_map_learns() -> None:
    model = registry.build("model", {"name": "pixelcnn-gated", "conditional": True}, (1, 4, 4), CLASSES)
    model.log_prob(torch.rand(CLASSES, 1, 4, 4).round(), torch.arange(CLASSES)).sum().backward()
    assert (model.maps.grad.flatten(1).norm(dim=1) > 0).all()


# ---------------------------------------------------------------------------------------------- what a pixel sees


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MODELS)
def test_a_logit_depends_on_what_its_receptive_field_says_and_on_no_later_pixel(
    name: str, size: tuple[int, int]
) -> None:
    model, pixels = built(name, size, channels=12), size[0] * size[1]
    image = torch.rand(1, 1, *size)
    jacobian = torch.autograd.functional.jacobian(model, image).view(pixels, pixels)
    assert (jacobian.triu() == 0).all()  # a logit's own pixel is on the diagonal
    for logit in range(pixels):
        field = model.receptive_field(*divmod(logit, size[1]))
        assert torch.equal(jacobian[logit].view(size) != 0, field)


@pytest.mark.parametrize("size", SIZES)
def test_the_gated_network_sees_all_earlier_pixels(size: tuple[int, int]) -> None:
    model = built("pixelcnn-gated", size, blocks=3)
    for row, column in itertools.product(*map(range, size)):
        earlier = torch.arange(size[0] * size[1]).view(size) < row * size[1] + column
        assert torch.equal(model.receptive_field(row, column), earlier)


def test_the_full_gated_network_sees_all_earlier_pixels() -> None:
    field = GatedPixelCnn((1, 28, 28)).receptive_field()
    assert field.flatten().tolist() == [True] * (14 * 28 + 14) + [False] * (14 * 28 - 14)


def test_the_plain_network_has_a_blind_spot() -> None:
    """One row up it sees 4 columns to the right, half of the first kernel; each row further up adds one."""
    field = PixelCnn((1, 28, 28)).receptive_field()
    row, column = torch.meshgrid(torch.arange(28), torch.arange(28), indexing="ij")
    earlier = 28 * row + column < 14 * 28 + 14
    blind = earlier & (row < 14) & (column - 14 > 3 + (14 - row))
    assert torch.equal(field, earlier & ~blind)
    assert blind.sum() == sum(range(1, 10))


@pytest.mark.parametrize(
    ("blocks", "size", "pixel"), [(1, (15, 17), (10, 8)), (2, (18, 25), (16, 4)), (1, (9, 9), (8, 8))]
)
def test_the_receptive_field_is_what_paths_through_the_masks_reach(
    blocks: int, size: tuple[int, int], pixel: tuple[int, int]
) -> None:
    def one_layer_back(pixels: set[tuple[int, int]], reach: int, itself: bool) -> set[tuple[int, int]]:
        steps = [(i, j) for i in range(-reach, 1) for j in range(-reach, reach + 1) if (i, j) < (0, int(itself))]
        reached = {(row + i, column + j) for row, column in pixels for i, j in steps}
        return {(row, column) for row, column in reached if 0 <= row < size[0] and 0 <= column < size[1]}

    seen = {pixel}
    for _ in range(2 * blocks + 1):
        seen = one_layer_back(seen, 1, itself=True)
    seen = one_layer_back(seen, 4, itself=False)
    field = built("pixelcnn", size, channels=2, blocks=blocks).receptive_field(*pixel)
    assert {tuple(pixel) for pixel in field.nonzero().tolist()} == seen
    assert not field.all()


# ------------------------------------------------------------------------------------------------- probabilities


@pytest.mark.parametrize("name", MODELS)
def test_probabilities_of_all_images_sum_to_1(name: str) -> None:
    log_prob = built(name, (3, 3)).log_prob(all_images(3, 3))
    assert log_prob.shape == (512,)
    assert log_prob.std() > 0.1
    assert abs(log_prob.exp().sum().item() - 1) < EXACT


@pytest.mark.parametrize("name", MODELS)
def test_log_prob_is_that_of_bernoulli_pixels(name: str) -> None:
    model, images = built(name, (4, 5)), torch.rand(3, 1, 4, 5).round()
    expected = torch.distributions.Bernoulli(logits=model(images)).log_prob(images).sum(dim=(1, 2, 3))
    torch.testing.assert_close(model.log_prob(images), expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("name", MODELS)
def test_maximum_likelihood_finds_any_distribution_of_four_pixels(name: str) -> None:
    """From the initial weights, down to the entropy."""
    model = registry.build("model", {"name": name, "channels": 16, "blocks": 4}, (1, 2, 2))
    images, target = all_images(2, 2), torch.distributions.Dirichlet(torch.full((16,), 0.5)).sample()
    entropy = -torch.xlogy(target, target).sum().item()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    assert -(target * model.log_prob(images)).sum().item() > entropy + 0.1
    for _ in range(200):
        optimizer.zero_grad()
        loss = -(target * model.log_prob(images)).sum()
        loss.backward()
        optimizer.step()
    assert -1e-10 < loss.item() - entropy < 2e-2


# ------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1), (2, 3), (11, 10)])
@pytest.mark.parametrize("name", MODELS)
def test_cached_sampling_is_naive_sampling_bit_for_bit(name: str, size: tuple[int, int], biased: bool) -> None:
    model, uniforms = built(name, size, channels=4, blocks=3), torch.rand(5, 1, *size)
    bias = 2 * torch.randn(5, 1, *size) if biased else None
    images = model.sample(uniforms=uniforms, bias=bias)
    assert torch.equal(images, naive_sample(model, uniforms, 0.0 if bias is None else bias))
    if images.numel() > 100:
        assert 0.05 < images.mean() < 0.95


@pytest.mark.parametrize("name", MODELS)
def test_frequencies_of_samples_are_their_probabilities(name: str) -> None:
    model, count = built(name, (2, 2)), 20_000
    index = model.sample(count).flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])  # the order of all_images
    frequency = torch.bincount(index.long(), minlength=16) / count
    probability = model.log_prob(all_images(2, 2)).exp().detach()
    error = (probability * (1 - probability) / count).sqrt()
    assert ((frequency - probability).abs() < 4 * error).all()


@pytest.mark.parametrize("name", MODELS)
def test_samples_say_how_far_they_are_and_follow_the_seed(name: str) -> None:
    model, rows = built(name, (4, 3)).float(), []
    torch.manual_seed(1)
    images = model.sample(7, progress=rows.append)
    torch.manual_seed(1)
    assert torch.equal(images, model.sample(7))
    assert rows == [1, 2, 3, 4]
    assert images.shape == (7, 1, 4, 3) and images.dtype == torch.float32 and not images.requires_grad
    assert set(images.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("given", [{}, {"count": 2, "uniforms": torch.zeros(2, 1, 4, 3)}])
def test_samples_need_a_count_or_uniforms(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="count or uniforms"):
        built("pixelcnn", (4, 3)).sample(**given)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------- masks and parameters


@pytest.mark.parametrize("kernel_size", [1, 3, 9])
@pytest.mark.parametrize("mask", ["A", "B"])
def test_a_masked_convolution_is_a_convolution_with_a_masked_kernel(mask: str, kernel_size: int) -> None:
    conv, x = MaskedConv2d(2, 3, kernel_size, mask), torch.randn(2, 2, 5, 6)  # type: ignore[arg-type]
    reach = kernel_size // 2
    whole = torch.zeros(3, 2, kernel_size, kernel_size)
    whole[:, :, : reach + 1] = conv.weight.detach()
    position = torch.arange(kernel_size**2).view(kernel_size, kernel_size)
    centre = position[reach, reach]
    whole[:, :, position > centre] = 0
    if mask == "A":
        whole[:, :, position == centre] = 0
    expected = F.conv2d(x, whole, conv.bias, padding=reach)
    torch.testing.assert_close(conv(x), expected, rtol=EXACT, atol=EXACT)


def test_the_gated_network_is_figure_2_written_out() -> None:
    """Two blocks; what may not be seen is padded away, above and to the left."""
    model, x = built("pixelcnn-gated", (6, 5), channels=2), torch.rand(3, 1, 6, 5).round()
    p = dict(model.named_parameters())

    def conv(name: str, x: Tensor, up: int = 0, left: int = 0, right: int = 0) -> Tensor:
        return F.conv2d(F.pad(x, (left, right, up, 0)), p[f"{name}.weight"], p.get(f"{name}.bias"))

    def gated(x: Tensor) -> Tensor:
        return x[:, :2].tanh() * x[:, 2:].sigmoid()

    v = conv("blocks.0.vertical", x, up=3, left=3, right=3)[:, :, :-1]
    h = conv("blocks.0.horizontal", x, left=3)[..., :-1] + conv("blocks.0.across", v)
    out = conv("blocks.0.out", gated(h))
    h, skips = out[:, :2], out[:, 2:]
    v = conv("blocks.1.vertical", gated(v), up=2, left=2, right=2)
    out = conv("blocks.1.out", gated(conv("blocks.1.horizontal", h, left=2) + conv("blocks.1.across", v)))
    logits = conv("head.3", conv("head.1", (skips + out[:, 2:]).relu()).relu()) + p["bias"]
    torch.testing.assert_close(model(x), logits, rtol=EXACT, atol=EXACT)


def test_masks_leave_weights_alone_and_give_them_no_gradient() -> None:
    model = built("pixelcnn", (6, 6))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.log_prob(torch.rand(2, 1, 6, 6).round()).sum().backward()
    model.sample(2)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    convs = [module for module in model.modules() if isinstance(module, MaskedConv2d)]
    assert len(convs) == 2 + 2 * 2
    for conv in convs:
        assert conv.weight.grad is not None
        seen = conv.mask.expand_as(conv.weight)
        assert (conv.weight[~seen] != 0).all() and (conv.weight.grad[~seen] == 0).all()
        assert (conv.weight.grad[seen] != 0).any()


@pytest.mark.parametrize("name", MODELS)
def test_a_state_dict_carries_all_that_the_model_is(name: str) -> None:
    model, x = built(name, (5, 6)), torch.rand(2, 1, 5, 6).round()
    other = built(name, (5, 6))
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("name", MODELS)
def test_all_parameters_learn_from_the_start(name: str) -> None:
    model = registry.build("model", {"name": name}, (1, 28, 28))
    (-model.log_prob(torch.rand(2, 1, 28, 28).round()).mean()).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
        assert parameter.grad.norm() > 0


def test_sizes_and_initial_values_are_those_of_the_report() -> None:
    model = PixelCnn((1, 28, 28))
    assert model.first.weight.shape == (32, 1, 5, 9) and model.last.weight.shape == (1, 32, 2, 3)
    assert model.first.bias is None and model.bias.shape == (1, 28, 28)
    assert len(model.blocks) == 9
    for parameter in model.parameters():
        if parameter.dim() == 4:
            assert abs(parameter.std().item() / 0.01 - 1) < 5 / (2 * parameter.numel()) ** 0.5
        else:
            assert (parameter == 0).all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (784,)])
def test_other_images_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="binary images"):
        registry.build("model", {"name": name}, shape)


def test_a_kernel_without_a_centre_is_refused() -> None:
    with pytest.raises(ValueError, match="centre"):
        MaskedConv2d(1, 1, 4, "A")
