"""The adversarial task, on the one game whose every step can be written by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from genbench.build import build_task
from genbench.compose import configuration
from genbench.config import to_dict
from genbench.engine.batches import Batches
from genbench.engine.measurement import values_of
from genbench.identity import settings
from genbench.metrics import dirac as theory
from genbench.tasks.gan import dirac
from genbench.tasks.gan.dirac import DiracGame


def game(*words: str) -> DiracGame:
    return build_task(configuration(*words, "device=cpu"), torch.device("cpu"))


def play(task: DiracGame, steps: int) -> np.ndarray:
    for _ in range(steps):
        task.prepare_step()
        task.training_step(task.dataset.train.repeat(task.batches_per_step, 1))
    return task.trajectory


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(start: np.ndarray, loss: str, c: float, steps: int, critic_steps: int, simultaneous: bool) -> np.ndarray:
    """Gradient steps of size 0.1 with the derivatives written out; R1 = ψ0²."""
    psi0, psi1, theta = (float(value) for value in start)
    points = [(psi0, psi1, theta)]
    for _ in range(steps):
        old = (psi0, psi1)
        for _ in range(critic_steps):
            real, fake = psi1, psi0 * theta + psi1
            if loss == "w1":  # metric = C(0) − C(θ)
                d0, d1 = -theta, 0.0
            else:  # metric = ½ (log σ(C(0)) + log σ(−C(θ)) + log 4)
                d0, d1 = -0.5 * sigmoid(fake) * theta, 0.5 * (sigmoid(-real) - sigmoid(fake))
            psi0, psi1 = psi0 + 0.1 * (d0 - 2 * c * psi0), psi1 + 0.1 * d1
        slope, bias = old if simultaneous else (psi0, psi1)
        theta -= 0.1 * (-slope if loss == "w1" else -0.5 * sigmoid(slope * theta + bias) * slope)
        points.append((psi0, psi1, theta))
    return np.array(points)


@pytest.mark.parametrize("loss", ["jsd", "w1"])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(("critic_steps", "updates"), [(1, "alternating"), (3, "alternating"), (1, "simultaneous")])
def test_the_trajectory_is_the_one_by_hand(loss: str, number: int, critic_steps: int, updates: str) -> None:
    settings = (f"task.critic_steps={critic_steps}", f"task.updates={updates}")
    task = game(f"experiment=dirac-{loss}-{number}", *settings)
    trajectory = play(task, 100)
    c = (0.0, 0.01, 0.1)[number - 1]
    expected = by_hand(trajectory[0, :3], loss, c, 100, critic_steps, updates == "simultaneous")
    np.testing.assert_allclose(trajectory[:, :3], expected, atol=2e-6)
    assert np.array_equal(trajectory[:, 2], trajectory[:, 3])  # no averaging


@pytest.mark.parametrize(
    ("rate", "steps", "truth"), [(2, 1, 0.5), (4, 1, 0), (6, 1, -0.5), (6, 2, 0.25), (6, 3, -0.125), (9, 1, -1.25)]
)
def test_a_bias_that_overshoots_has_a_negative_multiplier(rate: int, steps: int, truth: float) -> None:
    """It changes sides at every round; where it grows, it leaves what is linear of the game."""
    critic = ("optimizer@critic_optimizer=sgd", f"critic_optimizer.lr={rate}", f"task.critic_steps={steps}")
    found = game("experiment=dirac-jsd-1", *critic).evaluate("test")["eval/bias_multiplier"]
    assert found.truth == truth
    assert found.value == pytest.approx(truth, abs=1e-6 if abs(truth) < 1 else 0.01)


@pytest.mark.parametrize("loss", ["jsd", "w1"])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("task.critic_steps=4",),
        ("task.updates=simultaneous",),
        ("optimizer@critic_optimizer=sgd", "critic_optimizer.lr=0.05"),
        ("task.ema=0.9",),
    ],
    ids=" ".join,
)
def test_fitted_multipliers_are_the_predicted_ones(loss: str, number: int, settings: tuple[str, ...]) -> None:
    task = game(f"experiment=dirac-{loss}-{number}", *settings)
    measured = task.evaluate("test")
    values = values_of(measured)
    # Only W1 without a regularizer keeps a quadratic form, in single alternating steps of one size.
    conserves = (loss, number) == ("w1", 1) and settings in ((), ("task.ema=0.9",))
    assert ("eval/conserved_drift" in measured) == conserves
    assert values["eval/multiplier_error"] < 1e-6
    assert values["eval/bias_multiplier"] == pytest.approx(measured["eval/bias_multiplier"].truth, abs=1e-6)
    predicted = theory.multipliers(
        theory.Rules(
            loss,
            0.1 if number == 3 else 0.0,
            0.05 if "critic_optimizer.lr=0.05" in settings else 0.1,
            0.1,
            4 if "task.critic_steps=4" in settings else 1,
            "task.updates=simultaneous" in settings,
        )
    )
    measured = complex(values["eval/multiplier_real"], values["eval/multiplier_imag"])
    assert min(abs(measured - mu) for mu in predicted) < 1e-6


def test_judging_leaves_the_game_alone() -> None:
    task = game("experiment=dirac-w1-8")
    before = play(task, 5)
    task.evaluate("test")
    assert np.array_equal(task.trajectory, before)
    assert np.array_equal(play(task, 5)[:11, :3], play(game("experiment=dirac-w1-8"), 10)[:, :3])


def test_the_average_follows_theta() -> None:
    trajectory = play(game("experiment=dirac-w1-6"), 50)
    average = trajectory[0, 2]
    for theta, recorded in trajectory[1:, 2:]:
        average = 0.998 * average + 0.002 * theta
        assert recorded == pytest.approx(average, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "rounds", "amplitude"),
    [
        ((), 1300, 1.26991),
        (("task.critic_steps=5",), 600, 0.57336),
        (("optimizer@critic_optimizer=sgd", "critic_optimizer.lr=0.5"), 600, 0.56316),
    ],
    ids=str,
)
def test_the_limit_cycle_beside_its_truth(settings: tuple[str, ...], rounds: int, amplitude: float) -> None:
    """`amplitude`: of the game written out in float64, 60,000 rounds long."""
    task = game("experiment=dirac-w1-5", *settings)
    play(task, rounds)
    found = task.evaluate("test")
    cycle = found["eval/limit_cycle"]
    assert cycle.value == pytest.approx(amplitude, rel=1e-3)
    assert cycle.truth == pytest.approx(amplitude, rel=0.008)
    assert task.notes(values_of(found)) == []


def test_a_limit_cycle_that_has_not_settled_is_said() -> None:
    task = game("experiment=dirac-w1-4")
    play(task, 1000)
    found = task.evaluate("test")
    assert found["eval/limit_cycle"].truth is None
    (note,) = task.notes(values_of(found))
    assert "has not settled" in note and "trainer.max_steps" in note


@pytest.mark.parametrize(
    ("experiment", "setting"),
    [
        ("dirac-jsd-2", "optimizer=adam"),
        ("dirac-jsd-2", "optimizer=rmsprop"),
        ("dirac-jsd-2", "optimizer.momentum=0.5"),
        ("dirac-jsd-2", "optimizer.weight_decay=0.1"),
        ("dirac-jsd-2", "optimizer.milestones=[10]"),
        ("dirac-jsd-2", "optimizer.max_norm=0.01"),
        ("dirac-jsd-2", "optimizer@critic_optimizer=adam"),
        ("dirac-jsd-2", "regularizer.every=3"),
        ("dirac-jsd-1", "loss=nonsaturating"),
        *((f"dirac-w1-{number}", "optimizer=adam") for number in (1, 5, 6)),
    ],
)
def test_no_theory_is_claimed_for_other_games(experiment: str, setting: str) -> None:
    task = game(f"experiment={experiment}", setting)
    play(task, 50)
    measured = task.evaluate("test")
    assert {name for name in measured if name.startswith("eval/")} == {"eval/distance", "eval/distance_ratio"}
    assert [name for name, measurement in measured.items() if measurement.truth is not None] == []


def test_the_dirac_task_wants_dirac_players() -> None:
    with pytest.raises(ValueError, match="MlpVae has no generator, critic, sample_latent"):
        game("experiment=dirac-w1-1", "model=mlp-vae")


def test_the_engine_feeds_every_critic_step() -> None:
    """One row of data, three critic steps: through the batches that the trainer draws."""
    task = game("experiment=dirac-w1-2", "task.critic_steps=3")
    batches = Batches(task.training_data, 1, seed=0, per_step=task.batches_per_step)
    for _ in range(50):
        task.prepare_step()
        task.training_step(*batches.next())
    expected = by_hand(task.trajectory[0, :3], "w1", 0.01, 50, 3, simultaneous=False)
    np.testing.assert_allclose(task.trajectory[:, :3], expected, atol=2e-6)


@pytest.mark.parametrize("ema", ["null", "0.9"])
def test_a_game_with_the_weights_of_another_begins_there(ema: str) -> None:
    """Not at the point that was drawn, and thrown away: the quantity that W1 conserves would seem to drift."""
    first = game("experiment=dirac-w1-1", "seed=1")
    play(first, 30)
    second = game("experiment=dirac-w1-1", "seed=2", f"task.ema={ema}")
    second.load_weights({"model": first.weights()["model"]})
    play(second, 30)
    np.testing.assert_array_equal(second.trajectory[0], first.trajectory[-1])
    assert values_of(second.evaluate("test"))["eval/conserved_drift"] < 1e-5


@pytest.mark.parametrize(
    ("loss", "bias", "distance"),
    [
        ("jsd", 0.0, 0.0),
        ("jsd", 1.0, 1.0),
        ("kl", 1.0, 0.0),
        ("kl", 0.0, 1.0),
        ("w1", 3.0, 0.0),
        ("hinge", -1.5, 0.5),
    ],
)
def test_a_game_is_as_far_from_its_equilibrium_as_its_loss_says(loss: str, bias: float, distance: float) -> None:
    task = game("experiment=dirac-w1-1", f"loss={loss}")
    assert task.distance(np.array([0.0, bias, 0.0, 7.0])) == distance
    assert task.distance(np.array([3.0, bias, 4.0, 7.0])) == pytest.approx(math.hypot(5.0, distance))


def test_a_page_of_many_games_holds_the_first_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is loaded for the others: thousands of pairs would fill the memory with one picture."""
    monkeypatch.setattr(dirac, "ROWS", 2)
    played = {ema: game("experiment=dirac-w1-1", f"task.ema={ema or 'null'}") for ema in (None, 0.5)}
    for task in played.values():
        play(task, 1)
    loaded = []

    def finished(seed: int, ema: float | None) -> Any:
        # How steps are launched makes no other game.
        words = (f"seed={seed}", f"task.ema={ema or 'null'}", f"trainer.threads={1 if ema else 2}")
        config = configuration("experiment=dirac-w1-1", *words)
        return SimpleNamespace(
            config=to_dict(config), settings=settings(config), task=lambda: loaded.append(seed) or played[ema]
        )

    runs = [finished(seed, ema) for seed in (1, 2, 3, 4) for ema in (None, 0.5)]
    figures = DiracGame.sweep_figures(runs)
    assert loaded == [1, 1, 2, 2]
    assert figures["dirac-w1"].get_suptitle() == "Dirac-GAN, W1, 2 of 4 pairs"
    figure = DiracGame.sweep_figures(runs[:4])["dirac-w1"]
    assert figure.get_suptitle() == "Dirac-GAN, W1"
    titles = {text.get_text() for text in figure.texts}
    assert {f"W1, no regularizer, seed={seed}, without EMA" for seed in (1, 2)} <= titles


def test_a_row_of_the_page_is_called_after_loss_and_regularizer_and_whatever_else_differs() -> None:
    """Options that only one of two regularizers or optimizers has are told by its name."""
    titles = {
        ("experiment=dirac-w1-1",): "W1, no regularizer",
        ("experiment=dirac-w1-3",): "W1, R1 0.1",
        ("experiment=dirac-jsd-1",): "JSD, no regularizer",
        ("experiment=dirac-w1-1", "loss=squared_hellinger"): "squared Hellinger, no regularizer",
    }
    titles |= {("experiment=dirac-jsd-3", "task.critic_steps=2"): "JSD, R1 0.1"}
    figures = pages(titles)
    assert {key: names(figure) for key, figure in figures.items()} == {
        "dirac-w1": ["W1, no regularizer", "W1, R1 0.1"],
        "dirac-squared_hellinger": ["squared Hellinger, no regularizer"],
        "dirac-jsd": ["JSD, no regularizer, task.critic_steps=1", "JSD, R1 0.1, task.critic_steps=2"],
    }
    (figure,) = pages([("experiment=dirac-w1-1",), ("experiment=dirac-w1-1", "optimizer=adam")]).values()
    assert names(figure) == ["W1, no regularizer, optimizer=sgd", "W1, no regularizer, optimizer=adam"]


def test_every_average_stands_beside_the_game_without_one() -> None:
    (figure,) = pages([("experiment=dirac-w1-3",)], ("null", "0.9", "0.5")).values()
    assert names(figure) == ["W1, R1 0.1", "W1, R1 0.1"]
    told = [text.get_text().rpartition(", ")[2] for text in figure.texts if "with EMA" in text.get_text()]
    assert told == ["with EMA 0.5 of the generator", "with EMA 0.9 of the generator"]
    assert pages([("experiment=dirac-w1-3",)], ("null",)) == pages([("experiment=dirac-w1-3",)], ("0.5",)) == {}


def pages(played: Iterable[tuple[str, ...]], averages: Sequence[str] = ("null", "0.5")) -> dict[str, Figure]:
    """Of games with each of these averages of the generator."""
    runs = []
    for words in played:
        for ema in averages:
            config, task = configuration(*words, f"task.ema={ema}"), game(*words, f"task.ema={ema}")
            play(task, 1)
            runs.append(
                SimpleNamespace(config=to_dict(config), settings=settings(config), task=lambda task=task: task)
            )
    return DiracGame.sweep_figures(runs)


def names(figure: Figure) -> list[str]:
    """Of the rows."""
    found = [" ".join(text.get_text().split()) for text in figure.texts]
    return [name.removesuffix(", without EMA") for name in found if name.endswith(", without EMA")]
