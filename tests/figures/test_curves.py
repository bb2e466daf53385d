"""Curves over seeds."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from matplotlib.axes import Axes

from genbench.figures.curves import MAX_CURVES, Band, overlaid_curves, stacked_curves, two_scales
from genbench.figures.style import text_width

STEPS = np.arange(0.0, 1000.0, 50.0)


def band(label: str, offset: float = 0.0, spread: float | None = 1.0) -> Band:
    mean = offset - 100.0 - 300.0 / (1.0 + STEPS)
    if spread is None:
        return Band(label, STEPS, mean)
    return Band(label, STEPS, mean, mean - spread, mean + spread)


def test_every_curve_has_its_band_and_its_name_with_the_last_value() -> None:
    figure = overlaid_curves([band("one"), band("two", 5.0, None)], "ELBO (nats)", [("report", -99.0)], "title")
    (axes,) = figure.axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == len(STEPS)]
    assert len(lines) == 2
    np.testing.assert_allclose(lines[0].get_ydata(), band("one").mean)
    assert len(axes.collections) == 1  # no band for the second
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["one: −100.3", "report: −99", "two: −95.32"]
    assert axes.get_ylabel() == "ELBO (nats)"


def test_the_first_tenth_of_the_steps_does_not_set_the_range() -> None:
    (axes,) = overlaid_curves([band("one", spread=None)], "ELBO").axes
    low, high = axes.get_ylim()
    assert low > -110.0  # the first value is −400
    assert high > band("one").mean.max()


@pytest.mark.parametrize(("early", "shown"), [(10.0, True), (-30.0, False)])
def test_early_values_are_shown_unless_they_stretch_the_range(early: float, shown: bool) -> None:
    """Later values go from 14 to 24."""
    steps = np.arange(1.0, 101.0)
    values = np.where(steps <= 5, early, np.linspace(14.0, 24.0, 100))
    axes = stacked_curves([("KL", [Band("train", steps, values)], ())], "title").axes[0]
    low, high = axes.get_ylim()
    assert (low < early) == shown
    assert high > 24.0


def test_values_over_many_orders_of_magnitude_are_logarithmic() -> None:
    values = np.exp(-STEPS / 20)
    (axes,) = overlaid_curves([Band("falls", STEPS, values)], "distance", [("published", 0.0)]).axes
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.texts] == [
        f"falls: {values[-1]:.4g}".replace("-", "−")
    ]  # 0 has no place


def test_values_that_are_not_finite_leave_gaps() -> None:
    mean = band("one").mean.copy()
    mean[-3:] = np.nan
    figure = overlaid_curves([Band("one", STEPS, mean), Band("none", STEPS, np.full_like(STEPS, np.nan))], "ELBO")
    figure.canvas.draw()
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert texts == {f"one: {mean[-4]:.4g}".replace("-", "−"), "none: not finite"}


def test_more_curves_than_colours_are_refused() -> None:
    with pytest.raises(ValueError, match="can be told apart"):
        overlaid_curves([band(str(k)) for k in range(MAX_CURVES + 1)], "ELBO")


def test_charts_of_one_picture_share_their_steps_and_leave_no_empty_third() -> None:
    charts = [("ELBO", [band("train/elbo"), band("valid/elbo", 5.0)], []), ("KL", [band("train/kl")], [("one", 1.0)])]
    figure = stacked_curves(charts, "title")
    above, below = figure.axes
    assert figure.get_suptitle() == "title"
    assert above.get_xlim() == below.get_xlim()
    assert [axes.get_ylabel() for axes in figure.axes] == ["ELBO", "KL"]
    figure.canvas.draw()
    ends = [text.get_window_extent().x1 for axes in figure.axes for text in axes.texts]
    assert 0.9 * figure.bbox.width < max(ends) <= figure.bbox.width


def ticks(axes: Axes) -> list[str]:
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    labels = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    return [label.get_text() for place, label in labels if low <= place <= high]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([400.0], ["400"]),
        ([1.0, 2.0], ["1", "2"]),
        ([0.0, 8000.0], ["0", "2000", "4000", "6000", "8000"]),
        ([0.0, 20_000.0], ["0", "5k", "10k", "15k", "20k"]),
    ],
)
def test_steps_are_whole_numbers_of_one_unit(steps: list[float], expected: list[str]) -> None:
    (axes,) = overlaid_curves([Band("one", np.array(steps), np.array(steps))], "ELBO").axes
    assert ticks(axes) == expected


def test_the_range_around_one_value_is_a_share_of_it() -> None:
    (axes,) = overlaid_curves([Band("one", np.array([6.0]), np.array([-300.0]))], "ELBO").axes
    low, high = axes.get_ylim()
    assert low < -310 and high > -290


def test_one_point_and_no_point_are_drawn() -> None:
    overlaid_curves([Band("one", np.array([6.0]), np.array([-300.0]))], "ELBO").canvas.draw()
    overlaid_curves([], "ELBO", [("bar", -102.0)]).canvas.draw()


def test_two_quantities_of_unlike_size_have_an_axis_each() -> None:
    left, right = band("JSD", 100.7, None), band("FID", 5000.0, None)
    axes, twin = two_scales(left, right, "title").axes
    for one, shown, side in ((axes, left, "left"), (twin, right, "right")):
        (line,) = one.lines
        np.testing.assert_allclose(line.get_ydata(), shown.mean)
        low, high = one.get_ylim()
        assert low < shown.mean[-1] < high
        assert one.get_ylabel() == shown.label
        assert one.yaxis.label.get_color() == line.get_color()
        assert [name for name in ("left", "right") if one.spines[name].get_visible()] == [side]
    assert axes.lines[0].get_color() != twin.lines[0].get_color()
    assert axes.get_xlim() == twin.get_xlim()


def test_a_source_with_dollar_signs_is_no_formula() -> None:
    band = Band("nll", np.arange(3.0), np.arange(3.0))
    figure = overlaid_curves([band], "NLL", [(r"price $\foo$", 1.0)], "title")
    figure.savefig(BytesIO(), format="png")
    assert any(r"$\foo$" in text.get_text() for axes in figure.axes for text in axes.texts)
    assert text_width([r"$\foo$"], 9) > text_width([r"\foo"], 9)
