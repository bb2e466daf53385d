"""Class-conditional networks against what their papers write, and against ordinary networks of one class each."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import registry
from genbench.errors import ConfigError
from genbench.metrics.importance import importance_sampled_log_likelihood, sampled_elbos
from genbench.models.conditioning import ConditionalBatchNorm
from genbench.regularizers.sn import SpectralNorm

CLASSES = 3
EXACT = 1e-10
GANS = {
    "dcgan": ((3, 32, 32), {"width": 2, "latent_dim": 5}),
    "mlp-gan": ((1, 4, 4), {"latent_dim": 5}),
    "sngan-resnet": ((3, 32, 32), {"width": 4, "latent_dim": 5}),
}
OTHERS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "mlp-vae": ((1, 4, 4), {"latent_dim": 3, "width": 8}),
    "pixelcnn-gated": ((1, 4, 4), {"channels": 3, "blocks": 2}),
}


pytestmark = pytest.mark.usefixtures("float64")


def built(name: str, conditional: bool, classes: int = CLASSES) -> Any:
    """Far from its initial values."""
    shape, settings = (GANS | OTHERS)[name]
    model = registry.build("model", {"name": name, "conditional": conditional, **settings}, shape, classes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


def features(name: str, critic: Any, x: Tensor) -> Tensor:
    """φ(x): all but the last layer."""
    if name == "sngan-resnet":
        return torch.relu(critic.blocks(x)).sum((2, 3))
    layers = (critic if name == "mlp-gan" else critic.layers)[:-1]
    x = x.flatten(1) if name == "mlp-gan" else x
    for layer in layers:
        x = layer(x)
    return x.flatten(1)


@pytest.mark.parametrize("name", GANS)
def test_a_projection_critic_adds_the_classes_embedding_times_the_features(name: str) -> None:
    """ψ(φ(x)) + e_y · φ(x), with matrices written out."""
    critic, x = built(name, True).critic, torch.randn(6, *GANS[name][0])
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    last = {"dcgan": lambda: critic.layers[-1], "mlp-gan": lambda: critic[-1], "sngan-resnet": lambda: critic.last}
    psi = last[name]()
    embedding = (critic if name == "dcgan" else psi).embedding.weight
    phi = features(name, critic, x)
    assert embedding.shape == (CLASSES, phi.shape[1])
    expected = [psi.weight.flatten() @ phi[n] + psi.bias[0] + embedding[y] @ phi[n] for n, y in enumerate(labels)]
    torch.testing.assert_close(critic(x, labels), torch.stack(expected), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "shape"), [(nn.BatchNorm1d, (12, 4)), (nn.BatchNorm2d, (12, 4, 3, 5))])
def test_conditional_batch_normalization_has_gain_and_bias_of_the_class(
    kind: Any, shape: tuple[int, ...], training: bool
) -> None:
    """PyTorch's batch normalization of the whole batch with each class's gain and bias."""
    norm = ConditionalBatchNorm(kind(4, affine=False), CLASSES).train(training)
    assert (norm.weight == 1).all() and (norm.bias == 0).all()
    x, labels = 2 * torch.randn(shape) + 1, torch.arange(12) % CLASSES
    with torch.no_grad():
        norm.weight.normal_(), norm.bias.normal_()
        norm.norm.running_mean.normal_(), norm.norm.running_var.uniform_(1, 2)
    mean, variance = norm.norm.running_mean.clone(), norm.norm.running_var.clone()
    found = norm(x, labels)
    for k in range(CLASSES):
        expected = F.batch_norm(x, mean.clone(), variance.clone(), norm.weight[k], norm.bias[k], training)
        torch.testing.assert_close(found[labels == k], expected[labels == k], rtol=EXACT, atol=EXACT)
    assert torch.equal(norm.norm.running_mean, mean) is not training


def test_conditional_batch_normalization_keeps_bfloat16() -> None:
    norm = ConditionalBatchNorm(nn.BatchNorm2d(4, affine=False), CLASSES)
    x = torch.randn(6, 4, 3, 3, dtype=torch.bfloat16)
    assert norm.float()(x, torch.arange(6) % CLASSES).dtype == torch.bfloat16


def given_one_class(conditional: nn.Module, ordinary: nn.Module, k: int) -> None:
    """Give an ordinary network what a conditional one has for a class: its row of parameters with one for each class;
    what the inputs for classes add to the bias."""
    theirs = {name.replace(".norm.", "."): value for name, value in conditional.state_dict().items()}
    with torch.no_grad():
        for name, value in ordinary.state_dict().items():
            given = theirs[name]
            if given.shape == (CLASSES, *value.shape):
                given = given[k]
            elif given.dim() == 2 and given.shape[1] == value.shape[1] + CLASSES:
                column = given[:, value.shape[1] + k]
                theirs[bias] = theirs[bias := name.replace("weight", "bias")] + column
                given = given[:, : value.shape[1]]
            value.copy_(given)
        for name, value in ordinary.state_dict().items():
            if name.endswith("bias") and theirs[name].shape == value.shape:
                value.copy_(theirs[name])


@pytest.mark.parametrize("name", GANS)
def test_a_generator_given_one_class_is_an_ordinary_generator(name: str) -> None:
    conditional, ordinary = built(name, True).generator, built(name, False).generator
    z = torch.randn(8, 5)
    found = [conditional.eval()(z, torch.full((8,), k)) for k in range(CLASSES)]
    for k in range(CLASSES):
        given_one_class(conditional, ordinary, k)
        torch.testing.assert_close(found[k], ordinary.eval()(z), rtol=EXACT, atol=EXACT)
    assert not torch.allclose(found[0], found[1])


def test_a_vae_given_one_class_is_an_ordinary_vae() -> None:
    """In encoder and decoder, and so in the bound and in the importance-sampled log p(x|y), chunk by chunk."""
    conditional, ordinary = built("mlp-vae", True), built("mlp-vae", False)
    images, labels = torch.rand(12, 1, 4, 4).round(), torch.arange(12) % CLASSES

    def bound(model: Any, x: Tensor, *labels: Tensor) -> Tensor:
        torch.manual_seed(1)
        return next(sampled_elbos(model, x, lambda stored: stored, 3, *labels)).elbo

    def log_likelihood(model: Any, x: Tensor, *labels: Tensor) -> Tensor:
        torch.manual_seed(1)
        return importance_sampled_log_likelihood(model, x, lambda stored: stored, 7, 0.001, *labels).value

    for measure in (bound, log_likelihood):
        values = measure(conditional, images, labels)
        assert values.shape == (12,)
        for k in range(CLASSES):
            given_one_class(conditional, ordinary, k)
            own = labels == k
            torch.testing.assert_close(values[own], measure(ordinary, images)[own], rtol=EXACT, atol=EXACT)


def test_spectral_normalization_holds_for_the_embedding() -> None:
    critic = built("sngan-resnet", True).critic
    SpectralNorm(power_iterations=50).prepare(critic)
    critic(torch.randn(2, 3, 32, 32), torch.zeros(2, dtype=torch.long))
    assert torch.linalg.matrix_norm(critic.last.embedding.weight, 2).item() == pytest.approx(1)


@pytest.mark.parametrize("name", [*GANS, *OTHERS])
def test_a_conditional_model_needs_labels(name: str) -> None:
    with pytest.raises(ConfigError, match=r"needs labels.*\n.*model.conditional=false"):
        built(name, conditional=True, classes=0)
    assert built(name, conditional=False).classes == 0
    assert built(name, conditional=True).classes == CLASSES


@pytest.mark.parametrize("name", [*GANS, *OTHERS])
def test_the_number_of_classes_changes_nothing_where_a_model_is_not_conditional(name: str) -> None:
    """Old runs keep their initial weights, and their checkpoints' names."""
    shape, settings = (GANS | OTHERS)[name]
    states = []
    for classes in ((), (CLASSES,)):
        torch.manual_seed(3)
        states.append(registry.build("model", {"name": name, **settings}, shape, *classes).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not [key for key in states[0] if "embedding" in key or "of_class" in key]


def test_virtual_batch_normalization_knows_no_classes() -> None:
    config = {"name": "mlp-gan", "conditional": True, "normalization": "virtual"}
    with pytest.raises(ConfigError, match=r"model.normalization=batch"):
        registry.build("model", config, (1, 4, 4), CLASSES)


def test_a_component_is_given_as_much_of_the_context_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_shape(shape: tuple[int, ...], *, width: int) -> Any:
        return shape, width

    def of_classes(shape: tuple[int, ...], classes: int = 0, *, width: int) -> Any:
        return shape, classes, width

    for component, expected in (
        (of_shape, ((1, 2), 7)),
        (of_classes, ((1, 2), 5, 7)),
        (lambda *a, width: a, ((1, 2), 5)),
    ):
        monkeypatch.setattr(registry, "lookup", lambda group, name, component=component: component)
        assert registry.build("model", {"name": "any", "width": 7}, (1, 2), 5) == expected


@pytest.mark.parametrize("name", GANS)
def test_embeddings_of_projection_critics_start_as_small_as_other_weights(name: str) -> None:
    """DCGAN: N(0, 0.02²) (Radford et al. 2016); MLP: as its linear layer; SNGAN: Glorot's uniform distribution."""
    shape, settings = GANS[name]
    settings = settings | ({} if name == "mlp-gan" else {"width": 64})
    model = registry.build("model", {"name": name, "conditional": True, **settings}, shape, 10)
    (weight,) = (module.weight for module in model.critic.modules() if isinstance(module, nn.Embedding))
    classes, width = weight.shape
    expected = {
        "dcgan": 0.02,
        "mlp-gan": 1 / math.sqrt(3 * width),
        "sngan-resnet": math.sqrt(2 / (classes + width)),
    }[name]
    assert weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * weight.numel()))


def test_a_gated_pixelcnn_starts_as_described() -> None:
    """N(0, g²/fan-in) with g = 2 in the vertical stack, 1 elsewhere; biases 0."""
    model = registry.build("model", {"name": "pixelcnn-gated", "channels": 32, "blocks": 2}, (1, 4, 4), 0)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            gain = 2 if name.endswith("vertical") else 1
            n = module.weight.numel()
            std = module.weight.square().mean().sqrt().item()
            assert std == pytest.approx(gain / math.sqrt(n / len(module.weight)), rel=4 / math.sqrt(2 * n)), name
            assert module.bias is None or (module.bias == 0).all()
