"""Intervals over seeds, against SciPy's bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from genbench.report.statistics import bootstrap_interval, estimate


@pytest.mark.parametrize("n", [3, 4, 7, 20])
def test_the_interval_is_that_of_scipy(n: int) -> None:
    values = np.random.default_rng(n).gamma(2.0, size=n)
    found = estimate(values.tolist())
    reference = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=50_000, method="percentile", random_state=np.random.default_rng(1)
    ).confidence_interval
    spread = values.std()
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.low == pytest.approx(reference.low, abs=0.05 * spread)
    assert found.high == pytest.approx(reference.high, abs=0.05 * spread)


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    """The percentile bootstrap of 30 normal values covers in about 93 % of cases."""
    samples = np.random.default_rng(0).normal(size=(400, 30))
    covered = [low <= 0 <= high for low, high in map(bootstrap_interval, samples)]
    assert 0.89 < np.mean(covered) < 0.97


def test_the_same_values_always_have_the_same_interval() -> None:
    assert estimate([1.0, 2.0, 4.0]) == estimate([1.0, 2.0, 4.0])


@pytest.mark.parametrize("values", [[1.5], [1.0, 2.0]])
def test_fewer_than_three_values_have_no_interval(values: list[float]) -> None:
    found = estimate(values)
    assert (found.mean, found.n, found.low, found.high) == (1.5, len(values), None, None)


def test_points_of_a_curve_are_resampled_together() -> None:
    curves = np.random.default_rng(0).normal(size=(5, 3))
    low, high = bootstrap_interval(curves)
    alone = [bootstrap_interval(curves[:, k]) for k in range(3)]
    np.testing.assert_allclose(low, [one for one, _ in alone])
    np.testing.assert_allclose(high, [other for _, other in alone])
