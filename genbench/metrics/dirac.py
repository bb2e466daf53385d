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

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "bias_multiplier",
    "conserved_quantity",
    "crossing_amplitude",
    "ema_gain",
    "fit_multipliers",
    "gp_limit_cycle",
    "multipliers",
]

# loss → (a, d): slopes of the metric's gradient at the equilibrium, ∂²/∂ψ0∂θ = −a and ∂²/∂ψ1² = d
SLOPES = {"jsd": (0.25, -0.25), "w1": (1.0, 0.0)}


def multipliers(
    loss: str,
    coefficient: float,
    step_critic: float,
    step_generator: float,
    critic_steps: int = 1,
    simultaneous: bool = False,
) -> list[complex]:
    """Eigenvalues μ of one round (`critic_steps` critic steps, one generator step) at the equilibrium.

    With q = 1 − h_d·γ and S = 1 + q + … + qⁿ⁻¹, the n critic steps give ψ0' = qⁿ·ψ0 − h_d·a·S·θ. The
    generator then uses ψ0' (alternating) or the ψ0 that the critic started from (simultaneous), so μ solves

        μ² − (1 + qⁿ − h_g·h_d·a²·S)·μ + qⁿ = 0        alternating
        μ² − (1 + qⁿ)·μ + qⁿ + h_g·h_d·a²·S = 0        simultaneous

    The round contracts if both |μ| < 1, and rotates if they are complex.

    Args:
        loss: "jsd" or "w1".
        coefficient: of R1 = ‖∇C‖², without a ½, so γ = 2·coefficient; 0 for the unregularized game.
        step_critic, step_generator: step sizes h_d and h_g of plain gradient steps.
        critic_steps: n, critic steps per generator step.
        simultaneous: both players step from the same point.

    Returns:
        Two numbers, ordered by real, then imaginary part.
    """
    a, _ = _slopes(loss)
    q = 1 - 2 * coefficient * step_critic
    decay = q**critic_steps
    coupling = step_generator * step_critic * a**2 * sum(q**k for k in range(critic_steps))
    if simultaneous:
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


def gp_limit_cycle(loss: str, coefficient: float) -> float | None:
    """Limit of gradient flow under coefficient·(‖∇C‖ − 1)²: |θ| whenever ψ0 = 0.

    W1 with γ = 2·coefficient < 2 converges to a cycle that crosses ψ0 = 0 at |θ| = γ·(1 + ρ)/(1 − ρ), where
    ρ = exp(−γπ/2ω), ω = √(1 − γ²/4): each half turn is a linear spiral about (0, ±γ). For γ ≥ 2 the
    spiral is a node, and the game rests at the wrong point |θ| = γ. Finite steps move the amplitude by O(h).

    Returns:
        The amplitude; None for JSD (no closed form) and for coefficient 0 (the circle depends on the start).
    """
    _slopes(loss)
    gamma = 2 * coefficient
    if loss != "w1" or gamma <= 0:
        return None
    if gamma >= 2:
        return gamma
    rho = math.exp(-gamma * math.pi / (2 * math.sqrt(1 - gamma**2 / 4)))
    return gamma * (1 + rho) / (1 - rho)


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


def crossing_amplitude(trajectory: ArrayLike, last: float = 0.2) -> float | None:
    """Mean |θ| where ψ0 changes sign, by linear interpolation, over the last part of a trajectory.

    Args:
        trajectory: [T, 3], (ψ0, ψ1, θ) after every round.
        last: fraction of the trajectory to use.

    Returns:
        The amplitude to compare with `gp_limit_cycle`; None if ψ0 never changes sign.
    """
    points = np.asarray(trajectory, dtype=np.float64)
    psi, _, theta = points[int(len(points) * (1 - last)) :].T
    before = np.flatnonzero((psi[:-1] < 0) != (psi[1:] < 0))
    if not before.size:
        return None
    share = psi[before] / (psi[before] - psi[before + 1])
    return float(np.abs(theta[before] + share * (theta[before + 1] - theta[before])).mean())


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
