"""The Dirac-GAN theory against simulations whose updates are written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genbench.metrics import dirac
from genbench.metrics.dirac_run import SETTLED, crossing_amplitude, judge_average, judge_limit_cycle


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def critic_gradient(loss: str, psi0: float, psi1: float, theta: float) -> tuple[float, float]:
    """∂metric/∂(ψ0, ψ1), nonlinear."""
    if loss == "w1":
        return -theta, 0.0
    fake = sigmoid(psi0 * theta + psi1)
    return -0.5 * fake * theta, 0.5 * (sigmoid(-psi1) - fake)


def generator_gradient(loss: str, psi0: float, psi1: float, theta: float) -> float:
    """∂metric/∂θ of the saturating game, nonlinear."""
    return -psi0 if loss == "w1" else -0.5 * sigmoid(psi0 * theta + psi1) * psi0


def simulate(
    loss: str,
    start: tuple[float, float, float],
    rounds: int,
    *,
    step_critic: float = 0.1,
    step_generator: float = 0.1,
    critic_steps: int = 1,
    r1: float = 0.0,
    gp: float = 0.0,
    simultaneous: bool = False,
    generator_first: bool = False,
) -> np.ndarray:
    psi0, psi1, theta = start
    points = [start]
    for _ in range(rounds):
        if generator_first:
            theta -= step_generator * generator_gradient(loss, psi0, psi1, theta)
        old = psi0, psi1
        for _ in range(critic_steps):
            d0, d1 = critic_gradient(loss, psi0, psi1, theta)
            penalty = r1 * 2 * psi0 + gp * 2 * (abs(psi0) - 1) * np.sign(psi0)
            psi0, psi1 = psi0 + step_critic * (d0 - penalty), psi1 + step_critic * d1
        if not generator_first:
            seen = old if simultaneous else (psi0, psi1)
            theta -= step_generator * generator_gradient(loss, *seen, theta)
        points.append((psi0, psi1, theta))
    return np.array(points, dtype=np.float64)


# 2e-4 from the equilibrium. The fit wants no bias (ψ1 enters JSD's a = ½·σ(ψ1) at first order), the bias
# wants to be alone (ψ0·θ drives it at second order).
NEAR = (2e-4 * 0.6, 0.0, -2e-4 * 0.8)
NEAR_ALONG_BIAS = (1e-7, 2e-4, 1e-7)


@pytest.mark.parametrize(
    ("loss", "coefficient", "real", "imaginary", "modulus"),
    [
        ("jsd", 0.0, 0.9996875, 0.0249980, 1.0),
        ("jsd", 0.01, 0.9986875, 0.0249655, 0.9989995),
        ("jsd", 0.1, 0.9896875, 0.0227739, 0.9899495),
        ("w1", 0.0, 0.9950000, 0.0998749, 1.0),
        ("w1", 0.01, 0.9940000, 0.0998198, 0.9989995),
        ("w1", 0.1, 0.9850000, 0.0988686, 0.9899495),
    ],
)
def test_published_configurations(
    loss: str, coefficient: float, real: float, imaginary: float, modulus: float
) -> None:
    low, high = dirac.multipliers(dirac.Rules(loss, coefficient, 0.1, 0.1))
    assert low == high.conjugate()
    assert high.real == pytest.approx(real, abs=5.1e-8)
    assert high.imag == pytest.approx(imaginary, abs=5.1e-8)
    assert abs(high) == pytest.approx(modulus, abs=5.1e-8)


@pytest.mark.parametrize("loss", ["jsd", "w1"])
@pytest.mark.parametrize("coefficient", [0.0, 0.01, 0.1, 2.0])
@pytest.mark.parametrize("simultaneous", [False, True])
@pytest.mark.parametrize(
    ("step_critic", "step_generator", "critic_steps"),
    [(0.1, 0.1, 1), (0.1, 0.1, 3), (0.2, 0.05, 1), (0.03, 0.3, 5)],
)
def test_multipliers_match_the_nonlinear_game(
    loss: str,
    coefficient: float,
    simultaneous: bool,
    step_critic: float,
    step_generator: float,
    critic_steps: int,
) -> None:
    points = simulate(
        loss,
        NEAR,
        40,
        step_critic=step_critic,
        step_generator=step_generator,
        critic_steps=critic_steps,
        r1=coefficient,
        simultaneous=simultaneous,
    )
    fitted = dirac.fit_multipliers(points[:, [0, 2]])
    predicted = dirac.multipliers(
        dirac.Rules(loss, coefficient, step_critic, step_generator, critic_steps, simultaneous)
    )
    np.testing.assert_allclose(fitted, predicted, rtol=0, atol=1e-6)


def test_unregularised_simultaneous_steps_spiral_out_by_mescheders_modulus() -> None:
    for value in dirac.multipliers(dirac.Rules("w1", 0.0, 0.1, 0.1, simultaneous=True)):
        assert abs(value) == pytest.approx(math.sqrt(1 + 0.1**2), abs=1e-12)


def test_alternating_w1_leaves_the_unit_circle_past_step_two() -> None:
    inside, outside = (dirac.multipliers(dirac.Rules("w1", 0.0, step, step)) for step in (1.99, 2.01))
    assert [abs(value) for value in inside] == pytest.approx([1, 1], abs=1e-12)
    assert max(abs(value) for value in outside) > 1.1


@pytest.mark.parametrize("loss", ["jsd", "w1"])
@pytest.mark.parametrize("critic_steps", [1, 3])
def test_bias_multiplier_matches_the_nonlinear_game(loss: str, critic_steps: int) -> None:
    points = simulate(loss, NEAR_ALONG_BIAS, 40, step_critic=0.2, critic_steps=critic_steps)
    expected = dirac.bias_multiplier(loss, 0.2, critic_steps)
    assert points[1:, 1] / points[:-1, 1] == pytest.approx(expected, abs=1e-6)
    assert expected == (1.0 if loss == "w1" else pytest.approx(0.95**critic_steps))


@pytest.mark.parametrize("generator_first", [False, True])
def test_alternating_w1_conserves_its_quadratic_form(generator_first: bool) -> None:
    points = simulate("w1", (0.7, -0.2, 0.5), 2000, generator_first=generator_first)
    kept = dirac.conserved_quantity(points, 0.1, critic_first=not generator_first)
    np.testing.assert_allclose(kept, kept[0], rtol=1e-12)
    wrong_sign = dirac.conserved_quantity(points, 0.1, critic_first=generator_first)
    assert np.ptp(wrong_sign) > 0.05


GAMES = [
    # coefficient, critic's step, generator's step, critic steps, simultaneous
    (0.1, 0.1, 0.1, 1, False),
    (0.01, 0.1, 0.1, 1, False),
    (0.1, 0.1, 0.1, 5, False),
    (0.1, 0.02, 0.1, 1, False),
    (0.1, 0.1, 0.5, 1, False),
    (0.02, 0.1, 0.1, 3, False),
    (0.1, 0.01, 0.3, 10, False),
    (0.5, 0.1, 0.1, 1, False),
    (0.9, 0.1, 0.1, 1, False),
    (0.1, 0.1, 0.1, 1, True),
    (0.1, 0.19, 0.19, 1, True),
    (0.3, 0.1, 0.1, 1, True),
]


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_gp_limit_cycle_is_the_one_that_discrete_games_end_on(game: tuple[float, float, float, int, bool]) -> None:
    """From inside and from outside, with more critic steps, two step sizes, and simultaneous steps."""
    coefficient, step_critic, step_generator, critic_steps, simultaneous = game
    cycle = dirac.gp_limit_cycle(dirac.Rules("w1", *game))
    assert cycle is not None
    rounds = int(math.log(1e-4) / math.log(cycle.decay) / 0.8)
    angle = np.angle(dirac.multipliers(dirac.Rules("w1", *game))[-1])
    for start in (0.3, 3.0):
        points = simulate(
            "w1",
            (0.0, 0.0, start * cycle.amplitude),
            max(rounds, 2000),
            step_critic=step_critic,
            step_generator=step_generator,
            critic_steps=critic_steps,
            gp=coefficient,
            simultaneous=simultaneous,
        )
        assert crossing_amplitude(points) == pytest.approx(cycle.amplitude, rel=angle**2 / 4)


@pytest.mark.parametrize("coefficient", [0.01, 0.1, 0.5, 0.9])
def test_gp_limit_cycle_of_small_steps_is_that_of_gradient_flow(coefficient: float) -> None:
    gamma = 2 * coefficient
    rho = math.exp(-gamma * math.pi / (2 * math.sqrt(1 - gamma**2 / 4)))
    cycle = dirac.gp_limit_cycle(dirac.Rules("w1", coefficient, 1e-4, 1e-4))
    assert cycle is not None
    assert cycle.amplitude == pytest.approx(gamma * (1 + rho) / (1 - rho), rel=1e-4)


def test_gp_that_is_too_strong_rests_at_the_wrong_point() -> None:
    points = simulate("w1", (0.5, 0.0, 0.1), 40_000, step_critic=0.01, step_generator=0.01, gp=1.5)
    cycle = dirac.gp_limit_cycle(dirac.Rules("w1", 1.5, 0.01, 0.01))
    assert cycle is not None and cycle.amplitude == 3.0
    assert abs(points[-1]) == pytest.approx([0.0, 0.0, 3.0], abs=1e-3)
    points = simulate("w1", (0.5, 0.0, 0.1), 40_000, critic_steps=5, gp=0.5)  # five steps make it as strong
    assert abs(points[-1]) == pytest.approx([0.0, 0.0, 1.0], abs=1e-3)
    cycle = dirac.gp_limit_cycle(dirac.Rules("w1", 0.5, 0.1, 0.1, 5))
    assert cycle is not None and cycle.amplitude == 1.0


@pytest.mark.parametrize(
    "game",
    [
        ("jsd", 0.1, 0.1, 0.1),
        ("w1", 0.0, 0.1, 0.1),
        ("w1", 0.01, 0.1, 0.1, 1, True),  # spirals out without end
        ("w1", 0.1, 0.5, 0.5),  # twelve rounds a turn
        ("w1", 3.0, 0.4, 0.1),  # each step jumps across
    ],
    ids=str,
)
def test_gp_limit_cycle_knows_where_there_is_none(game: tuple) -> None:
    assert dirac.gp_limit_cycle(dirac.Rules(*game)) is None


def test_simultaneous_steps_can_outrun_a_weak_penalty() -> None:
    points = simulate("w1", (0.0, 0.0, 2.0), 5000, gp=0.01, simultaneous=True)
    assert np.linalg.norm(points[-1]) > 1e6


def test_crossing_amplitude_interpolates() -> None:
    points = np.array([[-1.0, 0, -9], [-1.0, 0, 2], [3.0, 0, 6], [-3.0, 0, -2]])
    assert crossing_amplitude(points, last=1.0) == pytest.approx((3 + 2) / 2)
    assert crossing_amplitude(points[1:2], last=1.0) is None


@pytest.mark.parametrize(
    ("coefficient", "rounds", "settled"),
    [(0.1, 5000, True), (0.01, 5000, False), (0.01, 12_000, True), (0.0005, 10_000, False), (0.1, 300, False)],
)
def test_a_limit_cycle_has_a_truth_once_it_has_settled(coefficient: float, rounds: int, settled: bool) -> None:
    """0.0005: so slow that it hardly drifts, 10 % away from where it will end."""
    rules = dirac.Rules("w1", coefficient, 0.1, 0.1)
    found = judge_limit_cycle(simulate("w1", (0.3, 0.0, 1.1), rounds, gp=coefficient), rules)
    assert (found["limit_cycle_unsettled"].value < SETTLED) is settled
    if settled:
        assert found["limit_cycle"].value == pytest.approx(found["limit_cycle"].truth, rel=0.0025)
        assert found["limit_cycle"].protocol == {"cycle": "settled to 0.1%"}
    else:
        assert found["limit_cycle"].truth is None
        assert found["limit_cycle"].protocol == {"cycle": "not settled to 0.1%"}


def test_a_cycle_without_a_theory_is_settled_by_its_drift() -> None:
    points = simulate("jsd", (0.3, 0.2, 0.9), 15_000, gp=0.1)
    found = judge_limit_cycle(points, dirac.Rules("jsd", 0.1, 0.1, 0.1))
    assert found["limit_cycle"].truth is None
    assert found["limit_cycle_unsettled"].value < SETTLED
    slow = simulate("jsd", (0.3, 0.2, 0.9), 3000, gp=0.01)
    assert judge_limit_cycle(slow, dirac.Rules("jsd", 0.01, 0.1, 0.1))["limit_cycle_unsettled"].value > SETTLED
    assert judge_limit_cycle(points[:3], dirac.Rules("jsd", 0.1, 0.1, 0.1)) == {}


def averaged(points: np.ndarray, weight: float) -> np.ndarray:
    """Beside (ψ0, ψ1, θ) the average θ̃."""
    average = points[:, 2].copy()
    for t in range(1, len(points)):
        average[t] = weight * average[t - 1] + (1 - weight) * points[t, 2]
    return np.concatenate([points, average[:, None]], axis=1)


@pytest.mark.parametrize(
    ("loss", "start", "rounds", "weight", "options", "known"),
    [
        ("w1", (0.5, 0.1, 0.9), 5000, 0.998, {}, True),
        ("w1", (0.5, 0.1, 0.9), 5000, 0.998, {"critic_steps": 3}, True),
        ("w1", (0.5, 0.1, 0.9), 5000, 0.998, {"step_critic": 0.02}, True),
        ("jsd", (0.3, 0.0, 0.4), 5000, 0.998, {}, True),
        ("w1", (0.5, 0.1, 0.9), 1000, 0.998, {}, False),  # the average still remembers its start
        ("jsd", (2.0, 0.5, 1.5), 5000, 0.998, {}, False),  # too far out for the linear game
        ("jsd", (0.3, 0.0, 0.4), 1000, 0.9, {}, False),  # less than a turn in the last fifth
    ],
)
def test_an_average_has_a_truth_where_the_theory_holds(
    loss: str, start: tuple[float, float, float], rounds: int, weight: float, options: dict, known: bool
) -> None:
    points = averaged(simulate(loss, start, rounds, **options), weight)
    rules = dirac.Rules(
        loss, 0.0, options.get("step_critic", 0.1), 0.1, options.get("critic_steps", 1), simultaneous=False
    )
    found = judge_average(points, weight, rules)["ema_gain"]
    if known:
        assert found.value == pytest.approx(found.truth, rel=0.02)
    else:
        assert found.truth is None


@pytest.mark.parametrize(("loss", "weight"), [("w1", 0.998), ("jsd", 0.998), ("w1", 0.9)])
def test_ema_gain_matches_an_average_of_the_rotation(loss: str, weight: float) -> None:
    mode = dirac.multipliers(dirac.Rules(loss, 0.0, 0.1, 0.1))[1]
    theta = (mode ** np.arange(20_000)).real
    average = np.zeros_like(theta)
    average[0] = theta[0]
    for t in range(1, len(theta)):
        average[t] = weight * average[t - 1] + (1 - weight) * theta[t]
    assert np.abs(average[-1000:]).max() == pytest.approx(dirac.ema_gain(weight, mode), rel=1e-2)


def test_unknown_loss_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="jsd, w1"):
        dirac.multipliers(dirac.Rules("hinge", 0.0, 0.1, 0.1))


def test_fit_refuses_a_trajectory_with_the_bias() -> None:
    with pytest.raises(ValueError, match=r"\(40, 3\)"):
        dirac.fit_multipliers(np.zeros((40, 3)))
