"""Pictures show the numbers they are given."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from mpl_toolkits.mplot3d.art3d import Line3DCollection
from PIL import Image
from scipy.optimize import minimize
from scipy.stats import norm

from genbench.figures import curves, dirac, grids, margin

# --- curves -----------------------------------------------------------------------------------------------

TRAIN = [(0.0, -548.0), *((float(e), -100.0 - 60.0 / e) for e in range(1, 21))]
VALID = [(0.0, -549.2), *((float(e), -101.0 - 60.0 / e) for e in range(1, 21))]


def line(figure: Figure, label: str) -> np.ndarray:
    (found,) = [entry for entry in figure.axes[0].lines if entry.get_label() == label]
    return found.get_xydata()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_learning_curves_draw_every_point_and_name_the_axes() -> None:
    figure = curves.learning_curves(TRAIN, VALID, title="VAE")
    (axes,) = figure.axes
    np.testing.assert_array_equal(line(figure, "training"), TRAIN)
    np.testing.assert_array_equal(line(figure, "validation"), VALID)
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("epoch", "ELBO (nats per image)", "VAE")


def test_learning_curves_tell_the_final_value_and_the_references() -> None:
    figure = curves.learning_curves(TRAIN, VALID, [("report 000", -100.99), ("bar", -102.0)])
    assert {"final validation: −104.00", "report 000: −100.99", "bar: −102.00"} <= set(texts(figure))
    heights = {tuple(entry.get_ydata()) for entry in figure.axes[0].lines}
    assert {(-100.99, -100.99), (-102.0, -102.0)} <= heights


def test_terrible_first_points_leave_the_range_but_not_unsaid() -> None:
    figure = curves.learning_curves(TRAIN, VALID)
    low, high = figure.axes[0].get_ylim()
    assert low > -200
    assert high > max(value for _, value in TRAIN)
    below = sum(value < low for _, value in TRAIN + VALID)
    assert 2 <= below <= 4
    assert any(f"{below} points below" in text and "−549.20" in text for text in texts(figure))


def test_the_range_hides_nothing_that_is_near_and_no_reference() -> None:
    smooth = [(float(e), -110.0 + 0.3 * e) for e in range(20)]
    figure = curves.learning_curves(smooth, [], [("far bar", -140.0)])
    low, high = figure.axes[0].get_ylim()
    assert low < -140 < -110 + 0.3 * 19 < high
    assert not any("below" in text for text in texts(figure))


def test_margin_labels_keep_apart_and_in_order() -> None:
    references = [(f"report {k}", -101.0 - 0.01 * k) for k in range(4)]
    figure = curves.learning_curves(TRAIN, VALID, references)
    notes = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    heights = {note.get_text().split(":")[0]: note.xyann[1] for note in notes}
    ordered = sorted(heights.values())
    assert len(ordered) == 5
    assert min(np.diff(ordered)) >= 0.058 - 1e-9
    assert max(ordered) <= 1 + 1e-9
    assert heights["report 0"] > heights["report 3"] > heights["final validation"]


def test_curves_survive_one_point_and_a_nan() -> None:
    curves.learning_curves([(1.0, -300.0)], []).savefig(BytesIO())
    curves.learning_curves([(1.0, -300.0), (2.0, float("nan"))], [(1.0, -310.0)]).savefig(BytesIO())
    curves.learning_curves([], [], [("bar", -102.0)]).savefig(BytesIO())


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_final_value_that_is_not_finite_is_said(better: curves.Better, bad: float) -> None:
    worst = -bad if better == "higher" else bad
    figure = curves.learning_curves([(1.0, 3.0)], [(1.0, 2.9), (2.0, worst)], better=better)
    assert "final validation: not finite" in texts(figure)
    figure.savefig(BytesIO())


def falling(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(epoch, -value) for epoch, value in pairs]


def test_a_quantity_to_be_lowered_is_the_mirror_image() -> None:
    references = [("report 000", -100.99), ("bar", -102.0)]
    upright = curves.learning_curves(TRAIN, VALID, references)
    mirrored = curves.learning_curves(
        falling(TRAIN), falling(VALID), falling(references), quantity="NLL (nats)", better="lower"
    )
    low, high = upright.axes[0].get_ylim()
    np.testing.assert_allclose(mirrored.axes[0].get_ylim(), (-high, -low), rtol=1e-12)
    assert mirrored.axes[0].get_ylabel() == "NLL (nats)"
    np.testing.assert_array_equal(line(mirrored, "training"), falling(TRAIN))
    assert {"final validation: 104.00", "report 000: 100.99", "bar: 102.00"} <= set(texts(mirrored))


def test_terrible_first_points_are_marked_at_the_edge_that_they_lie_beyond() -> None:
    for better, sign, marker, note in (("higher", 1, "v", "lowest −549.20"), ("lower", -1, "^", "highest 549.20")):
        train, valid = [(e, sign * v) for e, v in TRAIN], [(e, sign * v) for e, v in VALID]
        figure = curves.learning_curves(train, valid, better=better)
        low, high = figure.axes[0].get_ylim()
        beyond = [e for e, v in train + valid if (v < low if better == "higher" else v > high)]
        marks = [entry for entry in figure.axes[0].lines if entry.get_label() == "_hidden"]
        assert [mark.get_xdata()[0] for mark in marks] == beyond
        assert {mark.get_marker() for mark in marks} == {marker}
        assert {bool(mark.get_ydata()[0] > 0.5) for mark in marks} == {better == "lower"}
        assert any(f"{len(beyond)} points" in text and note in text for text in texts(figure))


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_names_in_the_margin_do_not_lie_on_the_note(better: curves.Better) -> None:
    """References at the end of the range where the note on hidden points stands."""
    sign = 1 if better == "higher" else -1
    train = [(e, sign * v) for e, v in TRAIN]
    references = [(f"bar {k}", sign * (-250.0 - 0.01 * k)) for k in range(3)]
    figure = curves.learning_curves(train, [], references, better=better)
    figure.canvas.draw()
    (note,) = [text for text in figure.axes[0].texts if "range" in text.get_text()]
    names = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    assert len(names) == 3
    taken = note.get_window_extent()
    for name in names:
        box = Text.get_window_extent(name)
        assert box.y0 >= taken.y1 if better == "higher" else box.y1 <= taken.y0


def test_the_legend_is_not_on_the_curve() -> None:
    overfitted = [(float(e), 3.0 + 0.01 * (e - 8) ** 2) for e in range(20)]
    for train in (falling(TRAIN), overfitted):
        figure = curves.learning_curves(train, [], better="lower")
        figure.canvas.draw()
        (axes,) = figure.axes
        box = axes.get_legend().get_window_extent()
        points = axes.transData.transform(line(figure, "training"))
        assert not any(box.contains(x, y) for x, y in points)
        if train is not overfitted:
            assert box.x1 > axes.bbox.x0 + 0.9 * axes.bbox.width
            assert box.y1 > axes.bbox.y0 + 0.9 * axes.bbox.height


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


# --- grids ------------------------------------------------------------------------------------------------


def shown(figure: Figure, panel: int = 0) -> np.ndarray:
    return np.asarray(figure.axes[panel].images[0].get_array())


def rendered(figure: Figure) -> np.ndarray:
    file = BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_places_images_row_by_row(channels: int) -> None:
    images = torch.rand(5, channels, 4, 6)
    canvas = shown(grids.image_grid(images, 2, 3))
    assert canvas.shape[:2] == (2 * 6 + 2, 3 * 8 + 2)
    for k in range(5):
        top, left = 2 + (k // 3) * 6, 2 + (k % 3) * 8
        expected = images[k].permute(1, 2, 0).squeeze(-1).numpy()
        np.testing.assert_allclose(canvas[top : top + 4, left : left + 6], expected, atol=1e-7)
    assert (canvas[8:12, 18:24] == 1).all()


@pytest.mark.parametrize("title", ["", "Samples"])
def test_image_pixels_are_whole_figure_pixels(title: str) -> None:
    images = np.random.default_rng(0).random((6, 1, 28, 28))
    figure = grids.image_grid(images, 2, 3, title)
    canvas, picture = shown(figure), rendered(figure)[..., 0]
    scale = round(1000 / canvas.shape[1])
    expected = (canvas * 255).round().repeat(scale, 0).repeat(scale, 1)
    bottom, left = picture.shape[0] - 15, 15
    part = picture[bottom - expected.shape[0] : bottom, left : left + expected.shape[1]]
    assert np.abs(part - expected).max() <= 2  # the grey map has 256 entries, and the picture 8 bits


def test_reconstructions_lie_below_their_originals() -> None:
    originals, reconstructed = np.full((13, 1, 4, 4), 0.25), np.full((13, 1, 4, 4), 0.75)
    figure = grids.reconstructions(originals, reconstructed, "VAE")
    (axes,) = figure.axes
    canvas = shown(figure)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["original", "reconstruction"] * 2
    for centre, label in zip(axes.get_yticks(), labels, strict=True):
        rows = [int(np.floor(centre - 1)), int(np.ceil(centre + 1))]
        assert (canvas[rows, 3] == (0.25 if label == "original" else 0.75)).all()
    assert (canvas == 0.25).sum() == (canvas == 0.75).sum() == 13 * 16


def test_reconstructions_need_as_many_originals() -> None:
    with pytest.raises(ValueError, match=r"\(3, 1, 4, 4\)"):
        grids.reconstructions(np.zeros((2, 1, 4, 4)), np.zeros((3, 1, 4, 4)))


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_manifold_quantiles_are_medians_of_equal_cells(n: int) -> None:
    np.testing.assert_allclose(grids.manifold_quantiles(n), norm.ppf((np.arange(n) + 0.5) / n), atol=1e-12)


@pytest.mark.parametrize("n", [1, 4, 9, 20])
def test_latent_manifold_grows_right_and_upwards(n: int) -> None:
    # Every image is as bright as its place in the order, so that a tick can be held against what it points at.
    images = (np.arange(n * n) / (n * n)).reshape(-1, 1, 1, 1) * np.ones((1, 1, 5, 3))
    figure = grids.latent_manifold(images, n, "Manifold")
    (axes,) = figure.axes
    canvas, q = shown(figure), grids.manifold_quantiles(n)
    assert axes.get_xlabel().startswith("z1")
    assert axes.get_ylabel().startswith("z2")
    x_labels = [label.get_text().replace("−", "-") for label in axes.get_xticklabels()]
    y_labels = [label.get_text().replace("−", "-") for label in axes.get_yticklabels()]
    for x, x_label in zip(axes.get_xticks(), x_labels, strict=True):
        for y, y_label in zip(axes.get_yticks(), y_labels, strict=True):
            place = round(canvas[round(y), round(x)] * n * n)
            assert f"{q[place % n]:.2f}" == x_label
            assert f"{q[place // n]:.2f}" == y_label
    values = np.array([float(label) for label in x_labels])
    np.testing.assert_array_equal(values, -values[::-1])


def test_stages_stand_side_by_side() -> None:
    figure = grids.stages({"before": torch.zeros(25, 1, 4, 4), "after": torch.ones(7, 1, 4, 4)}, "Samples")
    assert [axes.get_title() for axes in figure.axes] == ["before", "after"]
    assert shown(figure, 0).shape == (32, 32)
    assert shown(figure, 1).shape == (20, 20)
    assert figure.axes[0].get_position().x1 < figure.axes[1].get_position().x0


def test_images_have_one_or_three_channels() -> None:
    with pytest.raises(ValueError, match=r"\(2, 28, 28\)"):
        grids.image_grid(np.zeros((2, 28, 28)), 1, 2)


# --- Dirac-GAN --------------------------------------------------------------------------------------------


def spiral(steps: int = 300, decay: float = 0.99) -> np.ndarray:
    t = np.arange(steps)
    radius = decay**t
    return np.stack([radius * np.cos(0.1 * t), 0.3 * radius, radius * np.sin(0.1 * t)], axis=1)


def path(axes: object) -> np.ndarray:
    (curve,) = [entry for entry in axes.collections if isinstance(entry, Line3DCollection)]
    return np.asarray(curve._segments3d)


def panels(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.name == "3d"]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].texts]


@pytest.mark.parametrize(("equilibrium", "loss"), [("point", "JSD"), ("line", "W1")])
def test_trajectory_goes_through_every_point_by_step(equilibrium: dirac.Equilibrium, loss: str) -> None:
    points = spiral()
    figure = dirac.trajectory(torch.as_tensor(points), loss, "A game", equilibrium, ema=False)
    (axes,) = panels(figure)
    segments = path(axes)
    np.testing.assert_allclose(segments[:, 0], points[:-1])
    np.testing.assert_allclose(segments[:, 1], points[1:])
    assert figure.get_suptitle() == "A game"
    assert any(axes.get_ylabel() == "generator step" for axes in figure.axes)
    drawn = {entry.get_label(): np.array(entry.get_data_3d()).T for entry in axes.lines}
    np.testing.assert_allclose(drawn["start"], points[:1])
    np.testing.assert_allclose(drawn["end"], points[-1:])
    (resting,) = [data for label, data in drawn.items() if label.startswith("equilibri") and loss in label]
    assert (resting[:, [0, 2]] == 0).all()
    assert len(resting) == (1 if equilibrium == "point" else 2)
    assert set(drawn) | {"data: θ = 0"} == set(legend(figure))


def test_trajectory_axes_are_equal_and_say_what_is_averaged() -> None:
    for ema in (False, True):
        (axes,) = panels(dirac.trajectory(spiral(), "W1", "", "line", ema=ema))
        assert axes.get_xlim() == axes.get_ylim() == axes.get_zlim()
        assert axes.get_xlim()[1] > 1
        assert "ψ0" in axes.get_xlabel()
        assert "ψ1" in axes.get_ylabel()
        assert ("EMA" in axes.get_zlabel()) is ema


def test_a_diverged_game_is_drawn_as_far_as_its_numbers_go() -> None:
    points = spiral(100)
    points[60:] = np.nan
    (axes,) = panels(dirac.trajectory(points, "W1", "", "line", ema=False))
    assert len(path(axes)) == 59
    assert np.isfinite(axes.get_xlim()).all()


def test_trajectory_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match=r"\(5, 2\)"):
        dirac.trajectory(np.zeros((5, 2)), "W1", "", "line", ema=False)
    with pytest.raises(ValueError, match="plane"):
        dirac.trajectory(spiral(), "W1", "", "plane", ema=False)  # type: ignore[arg-type]


def test_pairs_share_their_limits() -> None:
    figure = dirac.pairs_page([dirac.Pair("W1, R1 0.1", 3 * spiral(), spiral(), "W1", "line")])
    left, right = panels(figure)
    assert left.get_xlim() == right.get_xlim() == right.get_zlim()
    assert [text.get_text() for text in figure.texts] == [
        "W1, R1 0.1, without EMA",
        "W1, R1 0.1, with EMA of the generator",
    ]
    assert "EMA" not in left.get_zlabel()
    assert "EMA" in right.get_zlabel()


def test_pairs_page_has_a_row_for_each_pair_and_one_legend() -> None:
    rows = [dirac.Pair("a", spiral(), spiral(), "JSD", "point"), dirac.Pair("b", spiral(), spiral(), "W1", "line")]
    figure = dirac.pairs_page(rows, "Dirac-GAN")
    assert len(panels(figure)) == 4
    first, _, third, _ = [axes.get_position() for axes in panels(figure)]
    assert third.y1 <= first.y0
    assert {"equilibrium of JSD: 0", "equilibria of W1: ψ0 = θ = 0", "start", "end"} < set(legend(figure))


def test_animation_grows(tmp_path: Path) -> None:
    file = tmp_path / "game.gif"
    dirac.animate(spiral(), file, "W1", "W1", "line", ema=True, frames=6)
    with Image.open(file) as picture:
        assert picture.format == "GIF"
        assert picture.n_frames == 6
        coloured = []
        for k in range(6):
            picture.seek(k)
            pixels = np.asarray(picture.convert("RGB")).astype(int)
            # Only the curve is distinctly blue.
            coloured.append(((pixels[..., 2] - pixels[..., 0] > 25) & (pixels[..., 1] < 160)).sum())
    assert coloured[0] < coloured[2] < coloured[-1]


def test_pictures_leave_pyplot_alone() -> None:
    import matplotlib.pyplot as plt

    dirac.trajectory(spiral(), "W1", "", "line", ema=False)
    curves.learning_curves(TRAIN, VALID)
    grids.image_grid(np.zeros((1, 1, 4, 4)), 1, 1)
    assert plt.get_fignums() == []
