"""Names in a margin stand apart, near what they name."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from genbench.figures import margin
from genbench.figures.style import BLUE, new_figure


@pytest.mark.parametrize("seed", range(5))
def test_heights_are_spread_by_least_squares_within_bounds(seed: int) -> None:
    generator = np.random.default_rng(seed)
    heights, gap, low, high = np.sort(generator.random(6)), 0.12, 0.1, 0.9
    count = len(heights)
    apart = np.diff(np.eye(count), axis=0)
    expected = minimize(
        lambda x: ((x - heights) ** 2).sum(),
        np.linspace(low, high, count),
        jac=lambda x: 2 * (x - heights),
        bounds=[(low, high)] * count,
        constraints={"type": "ineq", "fun": lambda x: apart @ x - gap, "jac": lambda x: apart},
        tol=1e-12,
    ).x
    np.testing.assert_allclose(margin.spread_apart(heights, gap, low, high), expected, atol=1e-6)
    assert not margin.spread_apart(np.empty(0), gap).size


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_names_stand_in_the_order_of_their_values_and_apart(scale: str) -> None:
    figure = new_figure(6, 3)
    axes = figure.add_subplot()
    axes.set_yscale(scale)
    axes.set_ylim(1.0, 1000.0)
    names = [("high", 900.0, BLUE), ("low", 1.0, BLUE), ("near", 1.01, BLUE), ("above", 2000.0, BLUE)]
    margin.write_margin(axes, names, 0.1, 0.0)
    places = {text.get_text(): text.xyann[1] for text in axes.texts}
    assert sorted(places, key=places.__getitem__) == ["low", "near", "high", "above"]
    assert min(np.diff(sorted(places.values()))) >= 0.1 - 1e-9
    assert min(places.values()) >= 0 and max(places.values()) <= 1 + 1e-9


def test_the_widest_name_is_measured_and_leaves_nothing_behind() -> None:
    figure = new_figure(6, 3)
    short, long = (
        margin.widest(figure, [("a", 0.0, BLUE)]),
        margin.widest(figure, [("a", 0.0, BLUE), ("abc" * 9, 1.0, BLUE)]),
    )
    assert 0 < short < 0.2 and 1.0 < long < 3.0
    assert margin.widest(figure, []) == 0
    assert not figure.texts
