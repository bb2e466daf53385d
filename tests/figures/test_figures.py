"""Pictures show the numbers they are given."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection
from PIL import Image
from scipy.stats import norm

from genbench.figures import dirac, grids
from genbench.figures.receptive import UNSEEN, receptive_field
from genbench.figures.style import BLUE, ORANGE, SMALLEST_SIZE, TITLE_SIZE, label_axes, new_figure

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


def test_a_receptive_field_shows_each_kind_of_pixel_as_its_legend_says() -> None:
    seen = np.zeros((5, 7), dtype=bool)
    seen[1, 2:6] = seen[2, 1:3] = True
    figure = receptive_field(torch.as_tensor(seen), 2, 3, "PixelCNN")
    (axes,) = figure.axes
    picture = rendered(figure)
    for row in range(5):
        for column in range(7):
            x, y = np.round(axes.transData.transform((column, row))).astype(int)
            expected = ORANGE if (row, column) == (2, 3) else BLUE if seen[row, column] else UNSEEN
            np.testing.assert_allclose(picture[picture.shape[0] - y, x] / 255, to_rgb(expected), atol=0.01)
    (legend,) = figure.legends
    names = ["not seen", "seen: 6 pixels", "predicted pixel"]
    assert [text.get_text() for text in legend.texts] == names
    assert [to_rgb(patch.get_facecolor()) for patch in legend.get_patches()] == [*map(to_rgb, (UNSEEN, BLUE, ORANGE))]
    assert all(spine.get_visible() for spine in axes.spines.values())
    with pytest.raises(ValueError, match=r"\(5, 3\) in it, got shape \(5, 7\)"):
        receptive_field(seen, 5, 3)


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


POINT, LINE = (0.0, 0.0), (-math.inf, math.inf)


@pytest.mark.parametrize(("resting", "loss"), [(POINT, "JSD"), (LINE, "W1")])
def test_trajectory_goes_through_every_point_by_step(resting: tuple[float, float], loss: str) -> None:
    points = spiral()
    figure = dirac.trajectory(torch.as_tensor(points), loss, "A game", resting, ema=False)
    (axes,) = panels(figure)
    segments = path(axes)
    np.testing.assert_allclose(segments[:, 0], points[:-1])
    np.testing.assert_allclose(segments[:, 1], points[1:])
    assert figure.get_suptitle() == "A game"
    assert any(axes.get_ylabel() == "generator step" for axes in figure.axes)
    drawn = {entry.get_label(): np.array(entry.get_data_3d()).T for entry in axes.lines}
    np.testing.assert_allclose(drawn["start"], points[:1])
    np.testing.assert_allclose(drawn["end"], points[-1:])
    (marked,) = [data for label, data in drawn.items() if label.startswith("equilibri") and loss in label]
    assert (marked[:, [0, 2]] == 0).all()
    assert len(marked) == (1 if resting == POINT else 2)
    assert set(drawn) | {"data: θ = 0"} == set(legend(figure))


@pytest.mark.parametrize(
    ("resting", "told", "ends"),
    [
        ((1.0, 1.0), "equilibrium of KL: ψ1 = 1, others 0", [1.0]),
        ((-0.5, 0.5), "equilibria of KL: ψ0 = θ = 0, −0.5 ≤ ψ1 ≤ 0.5", [-0.5, 0.5]),
    ],
)
def test_equilibria_lie_where_the_critic_rests(resting: tuple[float, float], told: str, ends: list[float]) -> None:
    figure = dirac.trajectory(spiral() / 10, "KL", "", resting, ema=False)
    (axes,) = panels(figure)
    marked = axes.lines[0]
    assert marked.get_label() == told
    assert marked.get_data_3d()[1].tolist() == pytest.approx(np.clip(ends, *axes.get_ylim()))
    assert resting[0] != resting[1] or axes.get_ylim()[1] > resting[0]


def test_trajectory_axes_are_equal_and_say_what_is_averaged() -> None:
    for ema in (False, True):
        (axes,) = panels(dirac.trajectory(spiral(), "W1", "", LINE, ema=ema))
        assert axes.get_xlim() == axes.get_ylim() == axes.get_zlim()
        assert axes.get_xlim()[1] > 1
        assert "ψ0" in axes.get_xlabel()
        assert "ψ1" in axes.get_ylabel()
        assert ("EMA" in axes.get_zlabel()) is ema


@pytest.mark.parametrize("resting", [POINT, LINE])
def test_the_end_of_a_game_looks_like_nothing_else(resting: tuple[float, float]) -> None:
    (axes,) = panels(dirac.trajectory(spiral(), "W1", "", resting, ema=True))
    marked, start, end = axes.lines
    assert marked.get_label().startswith("equilibri")
    assert (start.get_label(), end.get_label()) == ("start", "end")
    assert same_color(end.get_markerfacecolor(), "white")
    others = [marked.get_color(), *dirac.COLOURS(np.linspace(0, 1, 16))]
    assert not any(same_color(end.get_markeredgecolor(), other) for other in others)
    assert len({line.get_marker() for line in (start, end, marked)}) == 3


def test_all_numbers_of_a_game_have_one_size() -> None:
    figure = dirac.trajectory(spiral(), "W1", "", LINE, ema=True)
    figure.canvas.draw()
    axes, bar = figure.axes
    found = [axis.get_ticklabels() for axis in (axes.xaxis, axes.yaxis, axes.zaxis, bar.yaxis)]
    assert len({(label.get_fontsize(), label.get_fontname()) for labels in found for label in labels}) == 1


def test_a_diverged_game_is_drawn_as_far_as_its_numbers_go() -> None:
    points = spiral(100)
    points[60:] = np.nan
    (axes,) = panels(dirac.trajectory(points, "W1", "", LINE, ema=False))
    assert len(path(axes)) == 59
    assert np.isfinite(axes.get_xlim()).all()


def test_trajectory_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match=r"\(5, 2\)"):
        dirac.trajectory(np.zeros((5, 2)), "W1", "", LINE, ema=False)


def test_pairs_share_their_limits() -> None:
    figure = dirac.pairs_page([dirac.Pair("W1, R1 0.1", 3 * spiral(), spiral(), "W1", LINE, 0.9)])
    left, right = panels(figure)
    assert left.get_xlim() == right.get_xlim() == right.get_zlim()
    assert [text.get_text() for text in figure.texts] == [
        "W1, R1 0.1, without EMA",
        "W1, R1 0.1, with EMA 0.9 of the generator",
    ]
    assert "EMA" not in left.get_zlabel()
    assert "EMA" in right.get_zlabel()


def test_pairs_page_has_a_row_for_each_pair_and_one_legend() -> None:
    rows = [
        dirac.Pair(name, spiral(), spiral(), *game, 0.9)
        for name, game in (("a", ("JSD", POINT)), ("b", ("W1", LINE)))
    ]
    figure = dirac.pairs_page(rows, "Dirac-GAN")
    assert len(panels(figure)) == 4
    first, _, third, _ = [axes.get_position() for axes in panels(figure)]
    assert third.y1 <= first.y0
    assert {"equilibrium of JSD: 0", "equilibria of W1: ψ0 = θ = 0", "start", "end"} < set(legend(figure))


def test_animation_grows(tmp_path: Path) -> None:
    file = tmp_path / "game.gif"
    dirac.animate(spiral(), file, "W1", "W1", LINE, ema=True, frames=6)
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


@pytest.mark.parametrize("times", [0, 3, 40])
@pytest.mark.parametrize("width", [7, 1])
def test_a_title_fits_into_its_figure(width: float, times: int) -> None:
    title = "A" + times * ", with all that was changed from the experiment" + ": Ω"
    figure = new_figure(width, 3, title)
    figure.add_subplot()
    figure.savefig(BytesIO(), format="png")
    (written,) = figure.texts
    extent = written.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.width
    assert (written.get_fontsize() < TITLE_SIZE) == (times > 0)
    assert written.get_fontsize() >= SMALLEST_SIZE
    shown = written.get_text()
    assert shown == title if (width, times) in [(7, 0), (1, 0), (7, 3)] else "…" in shown
    assert shown.startswith("A") and shown.endswith(": Ω")


def test_words_with_dollar_signs_are_no_formulas() -> None:
    """Names and sources come from configurations; the numbers on a logarithmic axis remain formulas."""
    figure = new_figure(3, 3, r"costs $\\frac$")
    axes = figure.add_subplot()
    axes.semilogy([1, 2], [1.0, 1e6], label=r"a $\frac$ b")
    label_axes(axes, r"$\x$", "y")
    axes.legend()
    figure.savefig(BytesIO(), format="png")
    assert any(r"\mathdefault" in tick.get_text() for tick in axes.get_yticklabels())
    assert all(tick.get_parse_math() for tick in axes.get_yticklabels())
