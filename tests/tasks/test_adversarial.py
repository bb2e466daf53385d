"""The adversarial task beside a plain loop: separate passes, `backward()`, steps by hand."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from simulated import DEVICE, Violation, simulated_device, step_of_the_device
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from torch.optim.swa_utils import update_bn

from genbench import registry
from genbench.data.dataset import Dataset, as_stored
from genbench.engine.batches import Batches
from genbench.engine.device import tf32
from genbench.engine.gradients import Gradients, forget_compiled
from genbench.engine.measurement import values_of
from genbench.errors import ConfigError
from genbench.models.dcgan import Dcgan
from genbench.models.mlp_gan import MlpCritic, MlpGan
from genbench.regularizers.base import Critic
from genbench.regularizers.r1 import R1
from genbench.tasks.base import Parts
from genbench.tasks.gan import adversarial
from genbench.tasks.gan.adversarial import Adversarial
from genbench.tasks.gan.batch_norm import recompute_statistics

LR = 0.05


class TinyPair(nn.Module):
    """Smooth players on points of the plane."""

    def __init__(self, dtype: torch.dtype = torch.float64, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        norms = [nn.BatchNorm1d(8)] if norm else []
        self.generator = nn.Sequential(nn.Linear(3, 8), *norms, nn.Tanh(), nn.Linear(8, 2))
        self.critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
        self.to(dtype)

    def sample_latent(self, count: int) -> Tensor:
        return torch.randn(count, 3, dtype=self.generator[0].weight.dtype)


def points(count: int, seed: int, *shape: int) -> Tensor:
    """Rows that are all different."""
    generator = torch.Generator().manual_seed(seed)
    return 1 + torch.randn(count, *(shape or (2,)), generator=generator, dtype=torch.float64)


def make_task(
    model: nn.Module,
    loss: str = "jsd",
    regularizer: Any = "none",
    *,
    batch_size: int = 5,
    precision: str = "fp32",
    shape: tuple[int, ...] = (2,),
    **settings: Any,
) -> Adversarial:
    if isinstance(regularizer, str):
        regularizer = registry.build("regularizer", {"name": regularizer})
    dtype = next(model.parameters()).dtype
    train, valid, test = (points(count, seed, *shape).to(dtype) for seed, count in enumerate((30, 7, 11)))
    parts = Parts(
        model=model,
        loss=registry.build("loss", {"name": loss}),
        regularizer=regularizer,
        dataset=Dataset("points", train, valid, test, as_stored, False, {}),
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=LR),
        make_critic_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=LR),
        device=torch.device("cpu"),
        seed=4,
        batch_size=batch_size,
        precision=precision,
        data_root=Path(),
    )
    return Adversarial(parts, **{"batch_norm_batches": 3, **settings})


def rows_for(task: Adversarial, steps: int) -> list[Tensor]:
    """What the trainer would hand over, step by step."""
    batches = Batches(task.training_data, task.parts.batch_size, seed=0, per_step=task.batches_per_step)
    return [batches.next()[0] for _ in range(steps)]


def train(task: Adversarial, batches: list[Tensor], first: int = 0) -> list[dict[str, Tensor]]:
    """Training steps whose noise depends on their number alone."""
    logged = []
    for step, batch in enumerate(batches, first):
        torch.manual_seed(100 + step)
        task.prepare_step()
        logged.append(task.training_step(batch))
    return logged


# --- the same game, written out ------------------------------------------------------------------------------


def cross_entropy(scores: Tensor, target: float) -> Tensor:
    return binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))


Loss = Callable[[Tensor, Tensor], Tensor]
PLAYERS: dict[str, tuple[Loss, Loss]] = {
    "jsd": (
        lambda real, fake: (cross_entropy(real, 1) + cross_entropy(fake, 0)) / 2,
        lambda real, fake: -cross_entropy(fake, 0) / 2,
    ),
    "nonsaturating": (
        lambda real, fake: cross_entropy(real, 1) + cross_entropy(fake, 0),
        lambda real, fake: cross_entropy(fake, 1),
    ),
    "w1": (lambda real, fake: fake.mean() - real.mean(), lambda real, fake: -fake.mean()),
    "hinge": (
        lambda real, fake: torch.clamp(1 - real, min=0).mean() + torch.clamp(1 + fake, min=0).mean(),
        lambda real, fake: -fake.mean(),
    ),
    "relativistic": (
        lambda real, fake: -logsigmoid(real - fake).mean(),
        lambda real, fake: -logsigmoid(fake - real).mean(),
    ),
    "kl": (
        lambda real, fake: (fake - 1).exp().mean() - real.mean(),
        lambda real, fake: -(fake - 1).exp().mean(),
    ),
    "squared_hellinger": (
        lambda real, fake: (-real).exp().mean() + fake.exp().mean(),
        lambda real, fake: -fake.exp().mean(),
    ),
}


def slopes(critic: Critic, samples: Tensor) -> Tensor:
    """‖∇C‖² of each sample, one by one."""
    squares = []
    for sample in samples.detach():
        point = sample[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(point)[0], point, create_graph=True)
        squares.append((gradient**2).sum())
    return torch.stack(squares)


def between(real: Tensor, fake: Tensor) -> Tensor:
    epsilon = torch.rand(len(real), *[1] * (real.dim() - 1), dtype=real.dtype)
    return epsilon * real + (1 - epsilon) * fake


PENALTIES: dict[str, tuple[float, Callable[[Critic, Tensor, Tensor], Tensor]]] = {
    "none": (0.0, lambda critic, real, fake: torch.zeros(())),
    "r1": (1.0, lambda critic, real, fake: slopes(critic, real).mean()),
    "r2": (1.0, lambda critic, real, fake: slopes(critic, fake).mean()),
    "r1r2": (1.0, lambda critic, real, fake: slopes(critic, real).mean() + slopes(critic, fake).mean()),
    "gp": (10.0, lambda critic, real, fake: ((slopes(critic, between(real, fake)).sqrt() - 1) ** 2).mean()),
    "lp": (
        10.0,
        lambda critic, real, fake: (torch.clamp(slopes(critic, between(real, fake)).sqrt() - 1, min=0) ** 2).mean(),
    ),
}


def descend(network: nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= LR * parameter.grad  # type: ignore[operator]
    network.zero_grad()


def play_by_hand(
    pair: Any,
    loss: str,
    penalty: str,
    batches: list[Tensor],
    *,
    critic_steps: int = 1,
    every: int = 1,
    simultaneous: bool = False,
    first: int = 0,
) -> list[float]:
    """The game on the same noise; the penalties' values at the updates that have one."""
    critic_loss, generator_loss = PLAYERS[loss]
    coefficient, penalize = PENALTIES[penalty]
    penalties, update = [], first * critic_steps
    for step, batch in enumerate(batches, first):
        torch.manual_seed(100 + step)
        for real in batch.chunk(critic_steps):
            fake = pair.generator(pair.sample_latent(len(real))).detach()
            objective = critic_loss(pair.critic(real), pair.critic(fake))
            if update % every == 0:
                value = penalize(pair.critic, real, fake)
                objective = objective + every * coefficient * value
                penalties.append(value.item())
            update += 1
            pair.critic.zero_grad()
            objective.backward()
            if not simultaneous:
                descend(pair.critic)
        kept = [None if p.grad is None else p.grad.clone() for p in pair.critic.parameters()]
        pair.generator.zero_grad()
        generator_loss(pair.critic(real), pair.critic(pair.generator(pair.sample_latent(len(real))))).backward()
        if simultaneous:
            for parameter, gradient in zip(pair.critic.parameters(), kept, strict=True):
                parameter.grad = gradient
            descend(pair.critic)
        descend(pair.generator)
    return penalties


def assert_same_players(task: Any, pair: Any, **tolerance: float) -> None:
    for player in ("generator", "critic"):
        ours, theirs = getattr(task, player).parameters(), getattr(pair, player).parameters()
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, **tolerance)


EXACT = {"rtol": 1e-9, "atol": 1e-11}


@pytest.mark.parametrize("loss", PLAYERS)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_updates_are_those_of_a_plain_loop(loss: str, penalty: str) -> None:
    """Parameters after three steps of plain gradient descent, so all gradients; and the logged penalty."""
    pair = TinyPair()
    task = make_task(copy.deepcopy(pair), loss, penalty)
    start = [parameter.detach().clone() for parameter in pair.parameters()]
    batches = rows_for(task, 3)
    logged = train(task, batches)
    penalties = play_by_hand(pair, loss, penalty, batches)
    assert_same_players(task, pair, **EXACT)
    assert ["train/penalty" in values for values in logged] == [penalty != "none"] * len(logged)
    if penalty != "none":
        assert [values["train/penalty"].item() for values in logged] == pytest.approx(penalties, rel=1e-9)
    moved = [not torch.equal(ours, old) for ours, old in zip(task.parts.model.parameters(), start, strict=True)]
    # W1, and the relativistic loss but for rounding, do not see the critic's last bias.
    assert all(moved[:-1])


@pytest.mark.parametrize("loss", ["jsd", "relativistic"])
@pytest.mark.parametrize("penalty", ["none", "r1", "gp"])
@pytest.mark.parametrize(("critic_steps", "simultaneous"), [(1, True), (2, False), (5, False)])
def test_several_critic_steps_and_simultaneous_updates(
    loss: str, penalty: str, critic_steps: int, simultaneous: bool
) -> None:
    pair = TinyPair()
    updates = "simultaneous" if simultaneous else "alternating"
    task = make_task(copy.deepcopy(pair), loss, penalty, critic_steps=critic_steps, updates=updates)
    batches = rows_for(task, 3)
    train(task, batches)
    play_by_hand(pair, loss, penalty, batches, critic_steps=critic_steps, simultaneous=simultaneous)
    assert_same_players(task, pair, **EXACT)


@pytest.mark.parametrize(("loss", "penalty"), [("hinge", "gp"), ("relativistic", "r1r2")])
def test_convolutions_and_batch_norm(loss: str, penalty: str) -> None:
    """In-place activations and the generator's batch statistics, in float32."""
    torch.manual_seed(0)
    pair = Dcgan((1, 32, 32), latent_dim=4, width=2)
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter *= 8  # scores that matter
    task = make_task(copy.deepcopy(pair), loss, penalty, batch_size=3, shape=(1, 32, 32))
    batches = rows_for(task, 2)
    train(task, batches)
    play_by_hand(pair, loss, penalty, batches)
    assert_same_players(task, pair, rtol=1e-3, atol=1e-5)


def test_gradients_are_left_for_the_optimizers() -> None:
    """`_critic_gradient` and `_generator_gradient` alone, neither of which moves anything."""
    pair = TinyPair()
    task = make_task(copy.deepcopy(pair), "relativistic", "r1")
    real = task.dataset.train[:5]
    torch.manual_seed(7)
    values, scores = task._critic_gradient(True, real)
    task._generator_gradient(scores, real)
    torch.manual_seed(7)
    fake = pair.generator(pair.sample_latent(5)).detach()
    penalty = slopes(pair.critic, real).mean()
    (PLAYERS["relativistic"][0](pair.critic(real), pair.critic(fake)) + penalty).backward()
    expected = [parameter.grad.clone() for parameter in pair.critic.parameters()]  # type: ignore[union-attr]
    PLAYERS["relativistic"][1](
        pair.critic(real).detach(), pair.critic(pair.generator(pair.sample_latent(5)))
    ).backward()
    expected = [parameter.grad for parameter in pair.generator.parameters()] + expected
    found = [*task.generator.parameters(), *task.critic.parameters()]
    for parameter, gradient in zip(found, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, **EXACT)
    assert_same_players(task, pair, rtol=0, atol=0)
    torch.testing.assert_close(scores, pair.critic(real).detach(), **EXACT)
    assert values["train/relativistic"].item() == pytest.approx(
        task.loss.metric(pair.critic(real), pair.critic(fake)).item()
    )
    assert values["train/penalty"].item() == pytest.approx(penalty.item())
    assert not any(value.requires_grad for value in values.values())


def test_the_last_update_of_a_step_is_the_one_logged() -> None:
    task = make_task(TinyPair(), "nonsaturating", "r1", critic_steps=3)
    metrics: list[float] = []
    method = task.loss.metric

    def watched(real: Tensor, fake: Tensor) -> Tensor:
        metrics.append(method(real, fake).item())
        return method(real, fake)

    task.loss.metric = watched
    (values,) = train(task, rows_for(task, 1))
    assert len(set(metrics)) == len(metrics) == 3
    assert values["train/jsd"].item() == metrics[-1]


# --- lazy regularization -------------------------------------------------------------------------------------


@pytest.mark.parametrize("critic_steps", [1, 2])
@pytest.mark.parametrize("penalty", ["r1", "gp"])
def test_lazy_regularization(penalty: str, critic_steps: int) -> None:
    """Every third critic update with three times the coefficient, counted through the steps."""
    pair = TinyPair()
    lazy = registry.build("regularizer", {"name": penalty, "every": 3})
    task = make_task(copy.deepcopy(pair), "jsd", lazy, critic_steps=critic_steps)
    batches = rows_for(task, 7)
    logged = train(task, batches)
    penalties = play_by_hand(pair, "jsd", penalty, batches, critic_steps=critic_steps, every=3)
    assert_same_players(task, pair, **EXACT)
    found = [step for step, values in enumerate(logged) if "train/penalty" in values]
    assert found == ([0, 3, 6] if critic_steps == 1 else [0, 1, 3, 4, 6])
    assert [logged[step]["train/penalty"].item() for step in found] == pytest.approx(penalties, rel=1e-9)
    every_time = make_task(TinyPair(), "jsd", penalty, critic_steps=critic_steps)
    train(every_time, batches)
    assert not torch.allclose(every_time.critic[0].weight, task.critic[0].weight)


def test_which_updates_are_penalized() -> None:
    task = make_task(TinyPair(), "jsd", R1(every=3), critic_steps=2)
    kinds = [task.prepare_step() for _ in range(6)]
    assert [update for kind in kinds for update in kind] == [k % 3 == 0 for k in range(12)]
    assert len(set(kinds)) == 3  # so many graphs a captured run needs


@pytest.mark.parametrize("critic_steps", [1, 2])
def test_the_position_survives_a_crash(critic_steps: int) -> None:
    whole = make_task(TinyPair(), "w1", R1(every=3, coefficient=5.0), critic_steps=critic_steps, ema=0.9)
    batches = rows_for(whole, 9)
    train(whole, batches[:4])
    state = copy.deepcopy(whole.state_dict())
    after = train(whole, batches[4:], first=4)
    resumed = make_task(TinyPair(), "w1", R1(every=3, coefficient=5.0), critic_steps=critic_steps, ema=0.9)
    train(resumed, rows_for(resumed, 2))  # elsewhere
    resumed.load_state_dict(state)
    again = train(resumed, batches[4:], first=4)
    assert [values.keys() for values in again] == [values.keys() for values in after]
    assert {len(values) for values in after} == {1, 2}
    for a, b in zip(whole.parts.model.parameters(), resumed.parts.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert whole.average is not None and resumed.average is not None
    for a, b in zip(whole.average.network.parameters(), resumed.average.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_coefficient_zero_is_no_regularizer() -> None:
    tasks = [make_task(TinyPair(), "jsd", regularizer) for regularizer in (R1(coefficient=0.0), "none")]
    for task in tasks:
        train(task, rows_for(task, 3))
    assert_same_players(tasks[0], tasks[1], **EXACT)


# --- batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["w1", "relativistic"])
def test_every_critic_update_sees_a_fresh_batch(loss: str) -> None:
    task = make_task(TinyPair(), loss, critic_steps=3)
    seen: list[list[int]] = []

    def remember(_: nn.Module, inputs: tuple[Tensor]) -> None:
        known = (inputs[0].detach()[:, None] == task.dataset.train[None]).all(2)
        if known.any():
            assert known.sum(1).eq(1).all()
            seen.append(known.long().argmax(1).tolist())

    task.critic.register_forward_pre_hook(remember)
    train(task, rows_for(task, 2))
    order = Batches((torch.arange(30),), 5, seed=0)
    expected = [order.next()[0].tolist() for _ in range(6)]
    if task.loss.relative:  # the generator looks at the last batch once more
        expected = [*expected[:3], expected[2], *expected[3:], expected[5]]
    assert seen == expected
    assert sorted({row for rows in seen for row in rows}) == list(range(30))


def test_batches_of_latents_are_fresh_as_well() -> None:
    task = make_task(TinyPair(), "jsd", critic_steps=3)
    drawn: list[Tensor] = []
    task.generator.register_forward_pre_hook(lambda _, inputs: drawn.append(inputs[0]))
    train(task, rows_for(task, 1))
    assert [len(latents) for latents in drawn] == [5, 5, 5, 5]
    assert len(torch.cat(drawn).unique(dim=0)) == 20


def test_a_smaller_last_batch() -> None:
    """Rows that do not divide evenly go round nevertheless, with as many fakes."""
    pair = TinyPair()
    task = make_task(copy.deepcopy(pair), "relativistic", "r1r2")
    batches = [task.dataset.train[:5], task.dataset.train[5:7]]
    train(task, batches)
    play_by_hand(pair, "relativistic", "r1r2", batches)
    assert_same_players(task, pair, **EXACT)


# --- judging -------------------------------------------------------------------------------------------------


class NormPair(TinyPair):
    """With batch normalization in the generator."""

    def __init__(self) -> None:
        super().__init__(norm=True)


@pytest.mark.parametrize("ema", [None, 0.8])
def test_judged_statistics_are_means_over_fresh_batches(ema: float | None) -> None:
    """Of the network that is judged, the average where there is one."""
    task = make_task(NormPair(), "jsd", "r1", batch_norm_batches=6, ema=ema)
    train(task, rows_for(task, 3))
    source = task.average.network if task.average else task.generator
    seen: list[Tensor] = []
    latents: list[Tensor] = []
    handles = [
        source[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])),
        source.register_forward_pre_hook(lambda _, inputs: latents.append(inputs[0])),
    ]
    judged = task.judged_generator()
    for handle in handles:
        handle.remove()
    norm = judged[1]
    assert [tuple(batch.shape) for batch in latents] == [(5, 3)] * 6
    assert len(torch.cat(latents).unique(dim=0)) == 30
    means = torch.stack([batch.mean(0) for batch in seen])
    variances = torch.stack([batch.var(0) for batch in seen])  # n − 1, as batch normalization keeps them
    torch.testing.assert_close(norm.running_mean, means.mean(0), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(norm.running_var, variances.mean(0), rtol=1e-10, atol=1e-12)
    assert not torch.allclose(norm.running_mean, source[1].running_mean, atol=1e-3)
    assert not judged.training
    assert not any(parameter.requires_grad for parameter in judged.parameters())
    # In use, those statistics and nothing of its own batch.
    z = task.parts.model.sample_latent(4)
    hidden = judged[0](z)
    hidden = (hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(judged(z), judged[3](hidden.tanh()))


def test_recomputed_statistics_are_pytorchs_without_a_wait() -> None:
    """torch.optim.swa_utils.update_bn reads a counter on the host for every layer and batch."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Tanh(), nn.BatchNorm1d(4)).eval()
    own, other = copy.deepcopy(network), copy.deepcopy(network)
    batches = torch.randn(7, 5, 3).unbind()
    recompute_statistics(own, [(batch,) for batch in batches])
    update_bn(batches, other.train())
    assert own.training
    assert [norm.momentum for norm in (own[1], own[3])] == [0.3, 0.1]
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in own.state_dict().items())
    with simulated_device():
        network.to(DEVICE)
        there = [batch.to(DEVICE) for batch in batches]
        with step_of_the_device(), torch.no_grad():
            recompute_statistics(network, [(batch,) for batch in there])
            with pytest.raises(Violation, match="the host waits"):
                update_bn(there, network.train())


def test_judged_generator_is_made_once_a_step() -> None:
    task = make_task(NormPair())
    judged = task.judged_generator()
    assert task.judged_generator() is judged
    state = copy.deepcopy(task.state_dict())
    before = copy.deepcopy(judged.state_dict())
    train(task, rows_for(task, 2))
    other = task.judged_generator()
    assert other is not judged
    assert not torch.equal(other[0].weight, judged[0].weight)
    assert torch.equal(other[0].weight, task.generator[0].weight)
    task.load_state_dict(state)
    for key, value in task.judged_generator().state_dict().items():
        assert torch.equal(value, before[key])  # the same weights, and the same latents for the statistics


def test_the_average_is_judged_where_there_is_one() -> None:
    task = make_task(NormPair(), ema=0.8)
    average = [parameter.detach().clone() for parameter in task.generator.parameters()]
    for k, batch in enumerate(rows_for(task, 4)):
        train(task, [batch], first=k)
        average = [0.8 * a + 0.2 * b.detach() for a, b in zip(average, task.generator.parameters(), strict=True)]
    judged = task.judged_generator()
    for found, expected in zip(judged.parameters(), average, strict=True):
        torch.testing.assert_close(found, expected, **EXACT)
    assert not torch.allclose(judged[0].weight, task.generator[0].weight)


@pytest.mark.parametrize("regularizer", ["r1", "sn"])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_is_what_the_critic_sees(regularizer: str, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "EVALUATION_BATCH", 3)
    monkeypatch.setattr(adversarial, "EVALUATION_SAMPLES", 8)
    task = make_task(NormPair(), "jsd", regularizer)
    train(task, rows_for(task, 3))
    value = task.evaluate(split)
    judged, critic = task.judged_generator(), copy.deepcopy(task.critic).eval()
    real = task.dataset.split(split)[:8]
    torch.manual_seed(task.parts.seed)
    fake = torch.cat([judged(task.parts.model.sample_latent(len(chunk))) for chunk in real.split(3)])
    assert len(fake) == len(real) == (7 if split == "valid" else 8)
    expected = task.loss.metric(critic(real), critic(fake)).item()
    name = "eval/jsd" if split == "valid" else "test/jsd"
    assert values_of(value) == {name: pytest.approx(expected, rel=1e-12)}
    assert value[name].protocol == {"samples": f"{len(real)} of each"}


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("regularizer", ["gp", "sn"])
def test_evaluation_leaves_everything_alone(regularizer: str, ema: float | None) -> None:
    def everything(task: Adversarial) -> dict[str, Tensor]:
        networks = [task.generator, task.critic, *([task.average.network] if task.average else [])]
        states = enumerate(network.state_dict() for network in networks)
        return {f"{k}.{name}": value.clone() for k, state in states for name, value in state.items()}

    task = make_task(NormPair(), "hinge", regularizer, ema=ema)
    train(task, rows_for(task, 2))
    modes = {name: module.training for name, module in task.parts.model.named_modules()}
    needs = {name: parameter.requires_grad for name, parameter in task.parts.model.named_parameters()}
    before, noise = everything(task), torch.get_rng_state()
    others = (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]  # noqa: NPY002
    for split in ("valid", "test"):
        task.evaluate(split)
    assert torch.equal(torch.get_rng_state(), noise)
    assert others == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]  # noqa: NPY002
    after = everything(task)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert modes == {name: module.training for name, module in task.parts.model.named_modules()}
    assert all(modes.values())
    assert needs == {name: parameter.requires_grad for name, parameter in task.parts.model.named_parameters()}


def test_looking_does_not_change_the_training() -> None:
    looked, undisturbed = make_task(NormPair(), "w1", "gp"), make_task(NormPair(), "w1", "gp")
    for k, batch in enumerate(rows_for(looked, 4)):
        torch.manual_seed(k)
        for task in (looked, undisturbed):
            state = torch.get_rng_state()
            task.prepare_step()
            task.training_step(batch)
            torch.set_rng_state(state)
        looked.evaluate("valid")
    states = [task.parts.model.state_dict().values() for task in (looked, undisturbed)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


# --- compiled, and in less precision -------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "regularizer"), [("jsd", "r1"), ("relativistic", "gp"), ("hinge", "sn")])
def test_traced_and_eager_training_agree(
    loss: str, regularizer: str, fresh_tracer: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole steps as PyTorch traces them, gradients of gradients and buffers included; no code is generated."""
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend="aot_eager"))
    every = {"every": 2} if regularizer == "r1" else {}
    logged, tasks = [], []
    for compiled in (False, True):
        penalty = registry.build("regularizer", {"name": regularizer, **every})
        task = make_task(TinyPair(torch.float32, norm=True), loss, penalty, compile=compiled, batch_size=8)
        batches = [task.dataset.train[8 * k : 8 * k + 8] for k in (0, 1, 2, 0, 3)]  # the last is smaller
        logged.append(train(task, batches))
        tasks.append(task)
    for ours, theirs in zip(*logged, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-6)
    if every:
        assert ["train/penalty" in values for values in logged[1]] == [True, False, True, False, True]
        assert all(values["train/penalty"] > 0 for values in logged[1][::2])
    states = [task.parts.model.state_dict() for task in tasks]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-6)


def test_compiled_and_eager_critics_agree(fresh_compiler: None) -> None:
    """Five updates with R1 through the compiler proper."""
    logged, tasks = [], []
    for compiled in (False, True):
        task = make_task(TinyPair(torch.float32), "jsd", "r1", compile=compiled, batch_size=8)
        for seed in range(5):
            torch.manual_seed(seed)
            values, scores = task._critic_gradient(True, task.dataset.train[4 * seed : 4 * seed + 8])
            task.critic_optimizer.step()
            logged.append(torch.stack([values["train/jsd"], values["train/penalty"], scores.mean()]))
        tasks.append(task)
    eager, through = torch.stack(logged).chunk(2)
    torch.testing.assert_close(through, eager, rtol=1e-4, atol=1e-6)
    assert_same_players(tasks[1], tasks[0], rtol=1e-4, atol=1e-6)
    assert len(eager.unique(dim=0)) == 5


def test_a_sweep_may_compile_any_number_of_objectives(fresh_tracer: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs of a sweep share a process: none may use up what the next one needs."""
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend="eager"))
    for factor in range(1, 12):
        weight = nn.Parameter(torch.ones(2))

        def objective(x: Tensor, factor: int = factor, weight: Tensor = weight) -> tuple[Tensor, dict[str, Tensor]]:
            return factor * (x * weight).sum(), {}

        Gradients(objective, [weight], compile_for=2)(torch.ones(2, 2))
        assert weight.grad is not None
        assert weight.grad.tolist() == [2 * factor] * 2
        forget_compiled()  # as every run does at its end


class Witness(R1):
    """R1, and what it was computed in."""

    autocast: list[bool]
    dtypes: list[torch.dtype]

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        self.autocast = [*getattr(self, "autocast", []), torch.is_autocast_enabled("cpu")]
        scores = critic(real)
        self.dtypes = [*getattr(self, "dtypes", []), real.dtype, fake.dtype, scores.dtype]
        return super().penalty(critic, real, fake)


def test_bf16_keeps_parameters_penalties_and_scores_in_float32() -> None:
    regularizer = Witness(coefficient=1.0)
    task = make_task(TinyPair(torch.float32), "jsd", regularizer, precision="bf16")
    received: list[torch.dtype] = []
    metric = task.loss.metric

    def watched(real: Tensor, fake: Tensor) -> Tensor:
        received.extend((real.dtype, fake.dtype))
        return metric(real, fake)

    task.loss.metric = watched  # of both players
    passes: list[tuple[bool, torch.dtype]] = []
    task.critic[0].register_forward_hook(
        lambda layer, _, output: passes.append((torch.is_autocast_enabled("cpu"), output.dtype))
    )
    generated: list[torch.dtype] = []
    task.generator[0].register_forward_hook(lambda _, __, output: generated.append(output.dtype))
    logged = train(task, rows_for(task, 2))
    assert {parameter.dtype for parameter in task.parts.model.parameters()} == {torch.float32}
    assert {parameter.grad.dtype for parameter in task.parts.model.parameters()} == {torch.float32}  # type: ignore[union-attr]
    assert received == [torch.float32] * 8
    assert {value.dtype for values in logged for value in values.values()} == {torch.float32}
    assert regularizer.autocast == [False, False]
    assert set(regularizer.dtypes) == {torch.float32}
    # A step's passes: real and fake in bf16; the witness's own and the penalty's exact; the generator's in bf16.
    less, exact = (True, torch.bfloat16), (False, torch.float32)
    assert passes == [less, less, exact, exact, less] * 2
    assert generated == [torch.bfloat16] * 4


@pytest.mark.parametrize("penalty", ["none", "r1", "r1r2", "gp"])
@pytest.mark.parametrize("loss", ["jsd", "relativistic"])
def test_bf16_stays_near_fp32(loss: str, penalty: str) -> None:
    logged = {}
    for precision in ("fp32", "bf16"):
        task = make_task(TinyPair(torch.float32), loss, penalty, precision=precision)
        logged[precision] = train(task, rows_for(task, 6))
    assert not torch.equal(logged["fp32"][0][f"train/{loss}"], logged["bf16"][0][f"train/{loss}"])
    for full, less in zip(logged["fp32"], logged["bf16"], strict=True):
        for name, value in full.items():
            torch.testing.assert_close(less[name], value, rtol=0.05, atol=0.01)
    if penalty == "r1":  # the first comes before any difference between the parameters
        torch.testing.assert_close(logged["bf16"][0]["train/penalty"], logged["fp32"][0]["train/penalty"])


class Flags(torch.autograd.Function):
    """The identity; notes whether TF32 is allowed, going forward and each time that it is differentiated."""

    seen: ClassVar[list[tuple[str, bool]]] = []

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        Flags.seen.append(("forward", torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32))
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        Flags.seen.append(("backward", torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32))
        return Flags.apply(gradient)


class FlaggedPenalty(R1):
    def penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return Flags.apply(super().penalty(lambda x: Flags.apply(critic(x)), real, fake))


def test_penalties_and_their_double_backward_are_exact_under_tf32() -> None:
    """Which on CUDA is allowed by two switches: here they are what is watched."""
    task = make_task(TinyPair(torch.float32), "jsd", FlaggedPenalty(coefficient=1.0), precision="tf32")
    allowed: list[bool] = []
    task.critic.register_forward_hook(lambda *_: allowed.append(torch.backends.cudnn.allow_tf32))
    Flags.seen.clear()
    with tf32(True):
        train(task, rows_for(task, 1))
    assert allowed == [True, True, False, True]  # real, fake; the penalty's own pass; the generator's
    assert {kind for kind, _ in Flags.seen} == {"forward", "backward"}
    assert not any(on for _, on in Flags.seen)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
@pytest.mark.parametrize("penalty", ["none", "sn", "r1", "r1r2", "gp"])
def test_a_penalty_apart_gives_the_same_step(penalty: str, updates: str) -> None:
    """tf32 changes nothing on a CPU, but that the penalty's gradients are computed apart and added."""
    tasks = [make_task(TinyPair(), "w1", penalty, precision=p, updates=updates) for p in ("fp32", "tf32")]
    assert tasks[1]._penalty_apart == (penalty not in ("none", "sn"))
    logged = [train(task, rows_for(task, 5)) for task in tasks]
    for one, other in zip(*logged, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(other[name], one[name], rtol=1e-10, atol=1e-12)
    assert_same_players(tasks[1], tasks[0], rtol=1e-10, atol=1e-12)


def test_fp32_shares_the_critic_pass_between_loss_and_penalty() -> None:
    """R1 costs no third pass; GP looks elsewhere and does."""
    for name, passes in (("none", 3), ("r1", 3), ("r2", 3), ("r1r2", 3), ("gp", 4), ("lp", 4)):
        task = make_task(TinyPair(), "jsd", name)
        seen: list[int] = []
        task.critic.register_forward_hook(lambda _, __, output, s=seen: s.append(len(output)))
        train(task, rows_for(task, 1))
        assert seen == [5] * passes


# --- what is refused -----------------------------------------------------------------------------------------


def test_parts_that_do_not_belong_together() -> None:
    with pytest.raises(ConfigError, match="MlpCritic has no generator, sample_latent"):
        make_task(MlpCritic((2,), width=4))
    with pytest.raises(ConfigError, match="ELBO has no metric, critic_loss, generator_loss, relative"):
        make_task(TinyPair(), "elbo")
    with pytest.raises(ConfigError, match="simultaneous updates take one critic step"):
        make_task(TinyPair(), critic_steps=2, updates="simultaneous")


def test_virtual_batch_norm_trains() -> None:
    """A generator with a reference batch of its own, dropout in the critic."""
    torch.manual_seed(0)
    task = make_task(MlpGan((2,), latent_dim=3, normalization="virtual", dropout=0.3), "nonsaturating", "r1", ema=0.5)
    reference = task.generator.reference.clone()
    logged = train(task, rows_for(task, 2))
    assert all(torch.isfinite(value) for values in logged for value in values.values())
    assert torch.equal(task.generator.reference, reference)
    assert torch.equal(task.judged_generator().reference, reference)
    assert np.isfinite(task.evaluate("valid")["eval/jsd"].value)
