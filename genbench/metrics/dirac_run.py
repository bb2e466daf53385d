"""What a Dirac-GAN's trajectory shows of its long run, beside the theory: its limit cycle, and what an average keeps.

A truth stands beside a value only where the theory holds, and where the value was read after it had settled.
"""

from __future__ import annotations

import cmath
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genbench.engine.measurement import Measurement
from genbench.metrics.dirac import Rules, ema_gain, gp_limit_cycle, multipliers

__all__ = ["SETTLED", "amplitude_drift", "crossing_amplitude", "judge_average", "judge_limit_cycle"]

SETTLED = 1e-3  # of itself: by how much what has settled may still move
FEWEST_TURNS = 2  # over which an oscillation is measured
SMALL_LOGIT = 0.5  # up to which σ is a straight line to 2 % of itself


def crossing_amplitude(trajectory: ArrayLike, last: float = 0.2, end: float = 1.0) -> float | None:
    """Mean |θ| where ψ0 changes sign, by linear interpolation, over part of a trajectory.

    Args:
        trajectory: [T, 3], (ψ0, ψ1, θ) after every round.
        last: fraction of the trajectory to use.
        end: fraction of the trajectory after which nothing is used.

    Returns:
        The amplitude to compare with `gp_limit_cycle`; None if ψ0 never changes sign.
    """
    points = np.asarray(trajectory, dtype=np.float64)
    psi, _, theta = points[int(len(points) * (end - last)) : int(len(points) * end)].T
    before = np.flatnonzero((psi[:-1] < 0) != (psi[1:] < 0))
    if not before.size:
        return None
    share = psi[before] / (psi[before] - psi[before + 1])
    return float(np.abs(theta[before] + share * (theta[before + 1] - theta[before])).mean())


def amplitude_drift(trajectory: ArrayLike) -> float | None:
    """Relative difference of `crossing_amplitude` between the last fifth of a trajectory and the fifth before.

    None if ψ0 does not change sign in both.
    """
    before, now = crossing_amplitude(trajectory, 0.2, 0.8), crossing_amplitude(trajectory, 0.2)
    return abs(now - before) / now if now and before is not None else None


def judge_limit_cycle(trajectory: NDArray[np.float64], rules: Rules) -> dict[str, Measurement]:
    """`limit_cycle`, the `crossing_amplitude` of the last fifth of a run under GP, and `limit_cycle_unsettled`, the
    share of it by which it may still move. Nothing if ψ0 never changes sign there.

    It has settled if that share is below 0.1 %: the larger of its drift over the last two fifths and, where the
    theory knows a cycle, of what is left of the way there. (One that is approached slowly drifts little however far
    away it is.)

    Args:
        trajectory: [T, 3], (ψ0, ψ1, θ) after every round.
        rules: with the penalty's coefficient.
    """
    measured = crossing_amplitude(trajectory)
    if measured is None:
        return {}
    cycle, drift = gp_limit_cycle(rules), amplitude_drift(trajectory)
    remaining = cycle.decay ** (0.8 * len(trajectory)) if cycle else 0.0
    unsettled = max(remaining, 1.0 if drift is None else drift)
    settled = unsettled < SETTLED
    truth = cycle.amplitude if cycle and settled else None
    protocol = {"cycle": f"{'settled' if settled else 'not settled'} to {SETTLED:.1%}"}
    return {
        "limit_cycle": Measurement(measured, truth=truth, protocol=protocol),
        "limit_cycle_unsettled": Measurement(unsettled),
    }


def judge_average(trajectory: NDArray[np.float64], weight: float, rules: Rules) -> dict[str, Measurement]:
    """`ema_gain`: how much of θ's oscillation the average keeps, over the last fifth of an unregularized run.

    The truth holds once the average has forgotten its start, over several turns, and for a linear game: of JSD, for
    small oscillations. Nothing if θ stands still.

    Args:
        trajectory: [T, 4], (ψ0, ψ1, θ, θ̃) after every round.
        weight: of the average θ̃.
        rules: with coefficient 0.
    """
    last = trajectory[-max(len(trajectory) // 5, 2) :]
    theta, average = last[:, 2:].std(axis=0)
    if not theta:
        return {}
    mode = multipliers(rules)[-1]
    turns = len(last) * abs(cmath.phase(mode)) / (2 * math.pi)
    forgotten = weight ** (len(trajectory) - len(last)) < SETTLED and weight < abs(mode)
    logits = np.abs(last[:, 0] * last[:, 2]) + np.abs(last[:, 1])
    linear = rules.loss == "w1" or logits.max() < SMALL_LOGIT
    known = forgotten and linear and turns > FEWEST_TURNS
    return {"ema_gain": Measurement(float(average / theta), truth=ema_gain(weight, mode) if known else None)}
