"""Pictures of posteriors show the numbers they are given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from genbench.figures.grids import GAP, traversals
from genbench.figures.posteriors import FLOOR, collapse_panel, latent_bars

KL = [(1.0, 12.0), (2.0, 3.0), (3.0, 0.01)]
ACTIVE = [(1.0, 9.0), (2.0, 2.0), (3.0, 0.0)]
BOUNDS = {"before training": (-540.0, -535.0), "after training": (-95.25, -94.0)}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_collapse_panel_draws_every_point_and_names_the_axes() -> None:
    figure = collapse_panel(KL, ACTIVE, 20, BOUNDS, "PixelVAE")
    left, middle, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_xydata(), KL)
    np.testing.assert_array_equal(middle.lines[0].get_xydata(), ACTIVE)
    assert "KL" in left.get_ylabel() and "20" in middle.get_ylabel() and right.get_ylabel() == "nats per image"
    assert middle.get_ylim()[1] >= 20  # so that a few active ones of many look few
    assert figure.get_suptitle() == "PixelVAE"


def test_the_gap_between_bound_and_likelihood_is_drawn_and_told() -> None:
    figure = collapse_panel(KL, ACTIVE, 20, BOUNDS)
    right = figure.axes[2]
    drawn = {line.get_label(): list(line.get_ydata()) for line in right.lines}
    assert drawn["ELBO"] == [-540.0, -95.25]
    assert drawn["log p(x), importance-sampled"] == [-535.0, -94.0]
    assert {"gap 5.00", "gap 1.25"} == set(texts(figure))
    assert [label.get_text() for label in right.get_xticklabels()] == list(BOUNDS)


def test_a_collapsed_kl_lies_at_the_bottom_of_its_panel() -> None:
    """The axis begins at 0 and is never shorter than a nat: noise of hundredths must not fill the picture."""
    figure = collapse_panel([(1.0, 0.02), (2.0, 0.01)], [], 20, {})
    low, high = figure.axes[0].get_ylim()
    assert low == 0 and high >= 1


def test_a_single_epoch_is_a_single_tick() -> None:
    figure = collapse_panel([(1.0, 12.0)], [(1.0, 3.0)], 20, BOUNDS)
    figure.canvas.draw()
    for axes in figure.axes[:2]:
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1"]


def test_the_collapse_panel_survives_what_is_missing(recwarn: pytest.WarningsRecorder) -> None:
    figure = collapse_panel([(1.0, float("nan"))], [], 3, {})
    figure.canvas.draw()
    assert not recwarn.list


@pytest.mark.parametrize("kl", [None, [0.2, 3.0, 0.0]])
def test_latents_stand_in_falling_order_of_their_variance(kl: list[float] | None) -> None:
    figure = latent_bars([0.5, 0.9, 1e-9], kl, 0.01, "VAE")
    last = figure.axes[-1]
    heights = [bar.get_height() for bar in last.patches]
    assert heights[:2] == [0.9, 0.5] and FLOOR <= heights[2] < 0.01
    assert any("2 of 3 active" in text for text in texts(figure))
    if kl is None:
        assert len(figure.axes) == 1
    else:
        assert [bar.get_height() for bar in figure.axes[0].patches] == [3.0, 0.2, 0.0]
    assert last.get_xlabel() == "latents, from the largest to the smallest Var E[z|x]"
    (threshold,) = last.lines
    assert set(threshold.get_ydata()) == {0.01}


def test_traversals_put_every_image_beside_its_latent_and_above_its_value() -> None:
    images = np.linspace(0, 1, 6).reshape(6, 1, 1, 1) * np.ones((6, 1, 4, 4))
    figure = traversals(images, ["z3", "z1"], [-1.0, 0.0, 1.5], "one latent at a time")
    (axes,) = figure.axes
    canvas = axes.images[0].get_array()
    for row, y in enumerate(axes.get_yticks()):
        for column, x in enumerate(axes.get_xticks()):
            assert canvas[round(y), round(x)] == pytest.approx((3 * row + column) / 5)
    assert canvas.shape == (2 * (4 + GAP) + GAP, 3 * (4 + GAP) + GAP)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["z3", "z1"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["−1", "0", "1.5"]


def test_traversals_want_an_image_for_every_latent_and_value() -> None:
    with pytest.raises(ValueError, match="2 latents at 2 values each need 4 images, got 3"):
        traversals(np.zeros((3, 1, 4, 4)), ["z1", "z2"], [0.0, 1.0])
