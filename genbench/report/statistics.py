"""Means over seeds, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LEAST", "LEVEL", "Estimate", "bootstrap_interval", "estimate"]

LEVEL = 0.95
RESAMPLES = 9999
LEAST = 3  # seeds that an interval needs


@dataclass(frozen=True)
class Estimate:
    """A mean over n values; `low` and `high` bound it at 95 %, and are None for fewer than three values."""

    mean: float
    n: int
    low: float | None = None
    high: float | None = None


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one or more values, with its bootstrap interval from three values on."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < LEAST:
        return Estimate(mean, len(array))
    low, high = bootstrap_interval(array)
    return Estimate(mean, len(array), float(low), float(high))


def bootstrap_interval(values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile bootstrap of the mean over the first axis (Efron and Tibshirani 1993, chapter 13), always the same.

    Args:
        values: [n, …]; entries of the same index along the first axis are resampled together.

    Returns:
        The 2.5th and 97.5th percentile of the means of 9999 resamples, […] each.
    """
    array = np.asarray(values, dtype=np.float64)
    means = np.tensordot(_weights(len(array)), array, axes=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


@cache
def _weights(n: int) -> NDArray[np.float64]:
    """[RESAMPLES, n]: how often each value was drawn, over n."""
    rows = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    return np.stack([(rows == k).sum(axis=1) for k in range(n)], axis=1) / n
