"""True divergences between uniform distributions on two parallel segments at distance θ (see `data/lines.py`)."""

from __future__ import annotations

import math

__all__ = ["DISJOINT", "truth"]

# Divergences that are maximal for disjoint supports, whatever their distance.
DISJOINT: dict[str, float] = {
    "squared_hellinger": 2.0,  # ∫ (√p − √q)², the doubled convention of Nowozin et al. 2016
    "jsd": math.log(2),
    "total_variation": 1.0,
}


def truth(symbol: str, theta: float) -> float | None:
    """The divergence at distance `theta`; None if it is infinite or unknown."""
    if symbol == "w1":
        return theta
    if symbol in DISJOINT:
        return DISJOINT[symbol] if theta > 0 else 0.0
    return None
