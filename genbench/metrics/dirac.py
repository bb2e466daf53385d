"""Theory of the Dirac-GAN, and estimates of the same quantities from a trajectory.

The data are one point at 0, the generator is δ_θ, the critic is C(x) = ψ0·x + ψ1, high on real data. The critic
maximizes a metric (minus coefficient · regularizer), the generator minimizes it:

    JSD = ½·(log σ(C(0)) + log σ(−C(θ)) + log 4)        W1 = C(0) − C(θ) = −ψ0·θ

With R1 = ψ0² and coefficient c, so γ = 2c, one step of each player near the equilibrium is

    ψ0 ← ψ0 − h_d·(a·θ + γ·ψ0)        θ ← θ + h_g·a·ψ0        a = ½·σ(0) = ¼ (JSD), 1 (W1)

Mescheder, Geiger and Nowozin, "Which Training Methods for GANs Do Actually Converge?" (1801.04406)
study this game; their eigenvalues λ belong to gradient flow, the multipliers μ here to discrete steps.
"""

from __future__ import annotations

import cmath
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LimitCycle",
    "Rules",
    "bias_multiplier",
    "conserved_quantity",
    "ema_gain",
    "fit_bias_multiplier",
    "fit_multipliers",
    "gp_limit_cycle",
    "multipliers",
]

# loss → (a, d): slopes of the metric's gradient at the equilibrium, ∂²/∂ψ0∂θ = −a and ∂²/∂ψ1² = d
SLOPES = {"jsd": (0.25, -0.25), "w1": (1.0, 0.0)}

ROUNDING = 1e-6  # share of a bias of 1e-4 below which float64 no longer gives it to six digits
LARGEST_ANGLE = 0.1 * math.pi  # radians a round: a turn of 20 rounds


class Rules(NamedTuple):
    """A game of plain gradient steps."""

    loss: str
    """jsd or w1"""

    coefficient: float
    """Of R1 = ‖∇C‖² or GP = (‖∇C‖ − 1)², without a ½, so γ = 2·coefficient; 0 for the unregularized game."""

    step_critic: float
    """h_d, the size of the critic's plain gradient steps"""

    step_generator: float
    """h_g, the size of the generator's"""

    critic_steps: int = 1
    """n, critic steps per generator step"""

    simultaneous: bool = False
    """Both players step from the same point."""


class LimitCycle(NamedTuple):
    """|θ| where a cycle crosses ψ0 = 0, and the factor by which a round brings a game closer to that cycle."""

    amplitude: float
    decay: float


def multipliers(rules: Rules) -> list[complex]:
    """Eigenvalues μ of one round (`critic_steps` critic steps, one generator step) at the equilibrium.

    With q = 1 − h_d·γ and S = 1 + q + … + qⁿ⁻¹, the n critic steps give ψ0' = qⁿ·ψ0 − h_d·a·S·θ. The
    generator then uses ψ0' (alternating) or the ψ0 that the critic started from (simultaneous), so μ solves

        μ² − (1 + qⁿ − h_g·h_d·a²·S)·μ + qⁿ = 0        alternating
        μ² − (1 + qⁿ)·μ + qⁿ + h_g·h_d·a²·S = 0        simultaneous

    The round contracts if both |μ| < 1, and rotates if they are complex.

    Args:
        rules: their coefficient is R1's.

    Returns:
        Two numbers, ordered by real, then imaginary part.
    """
    a, _ = _slopes(rules.loss)
    q = 1 - 2 * rules.coefficient * rules.step_critic
    decay = q**rules.critic_steps
    coupling = rules.step_generator * rules.step_critic * a**2 * sum(q**k for k in range(rules.critic_steps))
    if rules.simultaneous:
        trace, determinant = 1 + decay, decay + coupling
    else:
        trace, determinant = 1 + decay - coupling, decay
    root = cmath.sqrt(trace**2 / 4 - determinant)
    return _ordered([trace / 2 - root, trace / 2 + root])


def bias_multiplier(loss: str, step_critic: float, critic_steps: int = 1) -> float:
    """Factor by which one round multiplies the critic's bias ψ1 near the equilibrium, where it decouples.

    JSD: 1 − h_d/4 per critic step (2b = −½, times the ½ in front of JSD). W1: 1, the bias never moves.
    """
    _, slope = _slopes(loss)
    return (1 + step_critic * slope) ** critic_steps


def fit_multipliers(trajectory: ArrayLike) -> list[complex]:
    """Eigenvalues of the 2×2 matrix M that best explains z_{t+1} = M·z_t, by least squares in float64.

    Exact for W1 with or without R1, a linear game. For JSD the trajectory must stay near the equilibrium:
    a bias of 1e-3 already changes a = ½·σ(ψ1) by a relative 5e-4.

    Args:
        trajectory: [T, 2], T ≥ 3, (ψ0, θ) after every round.

    Returns:
        Two numbers, ordered as by `multipliers`.
    """
    points = np.asarray(trajectory, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError(f"need a trajectory [T ≥ 3, 2] of (ψ0, θ), got shape {points.shape}")
    transposed, *_ = np.linalg.lstsq(points[:-1], points[1:], rcond=None)
    return _ordered([complex(value) for value in np.linalg.eigvals(transposed)])


def fit_bias_multiplier(bias: ArrayLike) -> float:
    """The mean factor from one round to the next, with the sign of the first: steps of more than 4 on JSD overshoot.

    Args:
        bias: [T], T ≥ 2, ψ1 after every round. What is left of it in the end may be rounding, and does not count.
    """
    values = np.asarray(bias, dtype=np.float64)
    ratios = values[1:] / values[0]
    rounds = max(1, int(np.count_nonzero(abs(ratios) > ROUNDING)))
    return float(np.copysign(abs(ratios[rounds - 1]) ** (1 / rounds), ratios[0]))


def gp_limit_cycle(rules: Rules) -> LimitCycle | None:
    """Where W1 ends under coefficient·(‖∇C‖ − 1)²: |θ| whenever ψ0 = 0.

    On either side of ψ0 = 0 the game is linear: a spiral about (0, ±γ), γ = 2·coefficient, with the multipliers μ of
    R1 with the same coefficient. Half a turn, π/arg μ rounds, takes θ on the line ψ0 = 0 from −A to γ + ρ·(A + γ),
    with ρ = |μ|^(π/arg μ), so the cycle that repeats itself has

        A = γ·(1 + ρ)/(1 − ρ)

    For small steps it is that of gradient flow, ρ = exp(−Γπ/2ω) with Γ = γ·√(n·h_d/h_g) and ω = √(1 − Γ²/4). The one
    approximation is that the sides change between two rounds, and not in the course of one: it moves A by less than
    (arg μ)²/4 of itself. If μ is real, the spiral is a node, and the game rests at the wrong point |θ| = γ.

    Args:
        rules: their coefficient is GP's.

    Returns:
        None for JSD (no closed form); for coefficient 0 (the circle depends on the start); where there is no cycle,
        since steps drive the players outwards faster than the penalty pulls them in; and for steps so large that a
        turn takes fewer than 20 rounds, where the approximation is worse than 2.5 %.
    """
    _slopes(rules.loss)
    if rules.loss != "w1" or rules.coefficient <= 0:
        return None
    gamma = 2 * rules.coefficient
    slow, mode = multipliers(rules)
    angle, decay = cmath.phase(mode), max(abs(slow), abs(mode))
    if angle > LARGEST_ANGLE or cmath.phase(slow) > LARGEST_ANGLE or decay >= 1:
        return None
    if not angle:
        return LimitCycle(gamma, decay)
    rho = decay ** (math.pi / angle)
    return LimitCycle(gamma * (1 + rho) / (1 - rho), decay)


def conserved_quantity(trajectory: ArrayLike, step: float, critic_first: bool = True) -> NDArray[np.float64]:
    """θ² + ψ0² ∓ h·θ·ψ0, which unregularized W1 with alternating steps of equal size h conserves exactly.

    The mixed term is subtracted if the critic moves first and added if the generator does.

    Args:
        trajectory: [T, 3], (ψ0, ψ1, θ) after every round.
        step: h, of both players.

    Returns:
        [T], constant up to rounding.
    """
    psi, _, theta = np.asarray(trajectory, dtype=np.float64).T
    quantity: NDArray[np.float64] = theta**2 + psi**2 + (-step if critic_first else step) * theta * psi
    return quantity


def ema_gain(weight: float, multiplier: complex) -> float:
    """Factor by which θ̃ ← w·θ̃ + (1 − w)·θ scales a mode θ_t = μᵗ after the transient.

    |(1 − w)/(1 − w/μ)|, for w < |μ|; with |μ| = 1 at angle φ it is (1 − w)/√(1 − 2w·cos φ + w²). It shrinks a
    rotation by a constant factor, so it does not make an undamped game converge.
    """
    return abs((1 - weight) / (1 - weight / multiplier))


def _slopes(loss: str) -> tuple[float, float]:
    if loss not in SLOPES:
        raise ValueError(f"no Dirac-GAN theory for loss {loss!r}; there is for: {', '.join(SLOPES)}")
    return SLOPES[loss]


def _ordered(values: list[complex]) -> list[complex]:
    return sorted(values, key=lambda value: (value.real, value.imag))
