"""The Dirac-GAN theory against simulations whose updates are written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genbench.metrics import dirac


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
    low, high = dirac.multipliers(loss, coefficient, 0.1, 0.1)
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
    predicted = dirac.multipliers(loss, coefficient, step_critic, step_generator, critic_steps, simultaneous)
    np.testing.assert_allclose(fitted, predicted, rtol=0, atol=1e-6)


def test_unregularised_simultaneous_steps_spiral_out_by_mescheders_modulus() -> None:
    for value in dirac.multipliers("w1", 0.0, 0.1, 0.1, simultaneous=True):
        assert abs(value) == pytest.approx(math.sqrt(1 + 0.1**2), abs=1e-12)


def test_alternating_w1_leaves_the_unit_circle_past_step_two() -> None:
    inside, outside = dirac.multipliers("w1", 0.0, 1.99, 1.99), dirac.multipliers("w1", 0.0, 2.01, 2.01)
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


@pytest.mark.parametrize("coefficient", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("radius", [0.3, 3.0])
def test_gp_limit_cycle_is_reached_from_inside_and_outside(coefficient: float, radius: float) -> None:
    step, time = 0.01, max(60.0, 8 / coefficient)
    points = simulate(
        "w1", (0.0, 0.0, radius), int(time / step), step_critic=step, step_generator=step, gp=coefficient
    )
    predicted = dirac.gp_limit_cycle("w1", coefficient)
    assert predicted is not None
    assert dirac.crossing_amplitude(points) == pytest.approx(predicted, rel=0.02)


def test_gp_that_is_too_strong_rests_at_the_wrong_point() -> None:
    points = simulate("w1", (0.5, 0.0, 0.1), 40_000, step_critic=0.01, step_generator=0.01, gp=1.5)
    assert dirac.gp_limit_cycle("w1", 1.5) == 3.0
    assert abs(points[-1]) == pytest.approx([0.0, 0.0, 3.0], abs=1e-3)


def test_gp_limit_cycle_knows_where_it_has_no_closed_form() -> None:
    assert dirac.gp_limit_cycle("jsd", 0.1) is None
    assert dirac.gp_limit_cycle("w1", 0.0) is None


def test_crossing_amplitude_interpolates() -> None:
    points = np.array([[-1.0, 0, -9], [-1.0, 0, 2], [3.0, 0, 6], [-3.0, 0, -2]])
    assert dirac.crossing_amplitude(points, last=1.0) == pytest.approx((3 + 2) / 2)
    assert dirac.crossing_amplitude(points[1:2], last=1.0) is None


@pytest.mark.parametrize(("loss", "weight"), [("w1", 0.998), ("jsd", 0.998), ("w1", 0.9)])
def test_ema_gain_matches_an_average_of_the_rotation(loss: str, weight: float) -> None:
    mode = dirac.multipliers(loss, 0.0, 0.1, 0.1)[1]
    theta = (mode ** np.arange(20_000)).real
    average = np.zeros_like(theta)
    average[0] = theta[0]
    for t in range(1, len(theta)):
        average[t] = weight * average[t - 1] + (1 - weight) * theta[t]
    assert np.abs(average[-1000:]).max() == pytest.approx(dirac.ema_gain(weight, mode), rel=1e-2)


def test_unknown_loss_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="jsd, w1"):
        dirac.multipliers("hinge", 0.0, 0.1, 0.1)


def test_fit_refuses_a_trajectory_with_the_bias() -> None:
    with pytest.raises(ValueError, match=r"\(40, 3\)"):
        dirac.fit_multipliers(np.zeros((40, 3)))
