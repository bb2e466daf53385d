"""Means over seeds, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

__all__ = ["FEWEST", "Estimate", "confidence_interval", "estimate"]

LEVEL = 0.95
RESAMPLES = 9999
FEWEST = 3  # values that an interval needs
ENOUGH = 10  # values from which on the bootstrap is used
CHUNK = 500  # means whose resamples are in memory at once
ENTRIES = 2**23  # of the weights that are in memory at once: all of them up to 838 values


@dataclass(frozen=True)
class Estimate:
    """A mean over n values.

    `low` and `high` bound it with 95 % confidence; of two values they are the values themselves (`is_range`), of one
    they are None.
    """

    mean: float
    n: int
    low: float | None = None
    high: float | None = None

    @property
    def is_range(self) -> bool:
        return self.n < FEWEST


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one or more values, with what is known of its precision."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) == 1:
        return Estimate(mean, 1)
    if len(array) < FEWEST:
        return Estimate(mean, len(array), float(array.min()), float(array.max()))
    low, high = confidence_interval(array)
    return Estimate(mean, len(array), float(low), float(high))


def confidence_interval(values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A 95 % confidence interval of the mean over the first axis, always the same for the same values.

    Below ten values Student's t. From ten on the expanded percentile bootstrap (Hesterberg 2015, "What Teachers
    Should Know About the Bootstrap"): it follows skewed values, and its quantiles lie as far out as those of t, since
    plain percentiles are too narrow for few values.

    `values` are [n, …], n ≥ 2, entries of the same index along the first axis belonging together; the ends […] each.
    """
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    t = float(stdtrit(n - 1, (1 + LEVEL) / 2))
    if n < ENOUGH:
        mean, half = array.mean(axis=0), t * array.std(axis=0, ddof=1) / np.sqrt(n)
        return mean - half, mean + half
    tail = float(ndtr(-t * np.sqrt(n / (n - 1))))
    ends = [
        np.quantile(_resampled(columns), [tail, 1 - tail], axis=-1)
        for columns in np.split(array.reshape(n, -1), range(CHUNK, array[0].size, CHUNK), axis=1)
    ]
    low, high = np.concatenate(ends, axis=-1).reshape(2, *array.shape[1:])
    return low, high


def _resampled(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, k] values as [k, RESAMPLES] means of resamples."""
    n = len(columns)
    size = ENTRIES // n or 1
    parts = [columns.T @ (counts / n) for counts in np.split(_counts(n), range(size, RESAMPLES, size), axis=1)]
    return np.concatenate(parts, axis=1)


@lru_cache(2)
def _counts(n: int) -> NDArray[np.uint8]:
    """[n, RESAMPLES]: how often each value was drawn."""
    draw = np.random.default_rng(0)
    counts = np.empty((n, RESAMPLES), dtype=np.uint8)  # one of n values is never drawn 256 times in n draws
    size = ENTRIES // n or 1
    for begin in range(0, RESAMPLES, size):
        rows = draw.integers(0, n, (min(size, RESAMPLES - begin), n))
        rows += n * np.arange(len(rows))[:, None]
        counts[:, begin : begin + size] = np.bincount(rows.ravel(), minlength=rows.size).reshape(rows.shape).T
    return counts
