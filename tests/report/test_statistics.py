"""Intervals over seeds: as SciPy computes them, and as often right as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from genbench.report import statistics
from genbench.report.statistics import confidence_interval, estimate

REPETITIONS = 4000
ERROR = math.sqrt(0.95 * 0.05 / REPETITIONS)  # of a share of 0.95 among so many repetitions


def coverage(n: int) -> float:
    """How often the interval of n standard normal values holds their mean, 0."""
    low, high = confidence_interval(np.random.default_rng(n).normal(size=(n, REPETITIONS)))
    return float(((low <= 0) & (high >= 0)).mean())


@pytest.mark.parametrize("n", range(3, 10))
def test_a_few_values_have_the_interval_of_student(n: int) -> None:
    values = np.random.default_rng(n).gamma(2.0, size=n)
    found = estimate(values.tolist())
    expected = scipy.stats.t.interval(0.95, n - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    assert (found.n, found.mean) == (n, pytest.approx(values.mean(), rel=1e-12))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [10, 20])
def test_ten_values_and_more_have_the_expanded_percentiles_of_the_bootstrap(n: int) -> None:
    """SciPy's percentile bootstrap at the level that Hesterberg's expansion asks for."""
    values = np.random.default_rng(n).gamma(2.0, size=n)
    t = scipy.stats.t.ppf(0.975, n - 1)
    level = 1 - 2 * scipy.stats.norm.cdf(-t * math.sqrt(n / (n - 1)))
    expected = scipy.stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=level,
        n_resamples=50_000,
        method="percentile",
        random_state=np.random.default_rng(1),
    ).confidence_interval
    found = estimate(values.tolist())
    assert found.low == pytest.approx(expected.low, abs=0.05 * values.std())
    assert found.high == pytest.approx(expected.high, abs=0.05 * values.std())


@pytest.mark.parametrize("n", [3, 5])
def test_intervals_of_student_hold_the_mean_as_often_as_they_say(n: int) -> None:
    assert abs(coverage(n) - 0.95) < 3 * ERROR


def test_intervals_of_ten_values_hold_the_mean_about_as_often_as_they_say() -> None:
    """The bootstrap is not exact: 0.946 of 20,000 intervals of normal values."""
    assert 0.935 < coverage(10) < 0.96


def test_two_values_have_a_range_and_one_has_nothing() -> None:
    two, one, three = estimate([1.0, 2.0]), estimate([1.5]), estimate([1.0, 2.0, 3.0])
    assert (two.mean, two.n, two.low, two.high, two.is_range) == (1.5, 2, 1.0, 2.0, True)
    assert (one.mean, one.n, one.low, one.high) == (1.5, 1, None, None)
    assert not three.is_range


@pytest.mark.parametrize("n", [5, 12])
def test_points_of_a_curve_are_resampled_together(n: int) -> None:
    """However many there are: 1203 take several chunks of resamples."""
    curves = np.random.default_rng(0).normal(size=(n, 3, 401))
    low, high = confidence_interval(curves)
    assert low.shape == high.shape == (3, 401)
    for index in ((0, 0), (1, 200), (2, 400)):
        alone = confidence_interval(curves[(slice(None), *index)])
        np.testing.assert_allclose((low[index], high[index]), alone)


def test_resamples_of_many_values_are_taken_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one is drawn, and none twice: the means are those of all rows that one generator draws at once."""
    values = np.random.default_rng(3).gamma(2.0, size=(21, 2))
    rows = np.random.default_rng(0).integers(0, 21, (statistics.RESAMPLES, 21))
    t = scipy.stats.t.ppf(0.975, 20)
    tail = scipy.stats.norm.cdf(-t * math.sqrt(21 / 20))
    expected = np.quantile(values[rows].mean(axis=1), [tail, 1 - tail], axis=0)
    monkeypatch.setattr(statistics, "ENTRIES", 21 * 100 + 5)
    statistics._counts.cache_clear()
    np.testing.assert_allclose(confidence_interval(values), expected, rtol=1e-12)
    statistics._counts.cache_clear()


@pytest.mark.parametrize("n", [3, 10])
def test_equal_values_have_an_interval_of_no_width(n: int) -> None:
    found = estimate([0.25] * n)
    assert (found.low, found.mean, found.high) == pytest.approx((0.25, 0.25, 0.25))
