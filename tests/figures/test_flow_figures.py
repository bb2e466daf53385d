"""Pictures of normalizing flows show the densities, samples and images that they are given."""

from __future__ import annotations

from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import chi2

from genbench.figures import flows, grids, plane

EXTENT = 5.0
GRID = np.linspace(-EXTENT, EXTENT, 101)
X1, X2 = np.meshgrid(GRID, GRID)


def normal(mean: tuple[float, float] = (0.0, 0.0), scale: float = 1.0) -> np.ndarray:
    square = (X1 - mean[0]) ** 2 + (X2 - mean[1]) ** 2
    return np.exp(-0.5 * square / scale**2) / (2 * np.pi * scale**2)


def samples(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(*shape, 2))


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.images]


def shown(axes: Axes) -> np.ndarray:
    return np.ma.filled(axes.images[0].get_array(), np.nan)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def assert_square(axes: Axes) -> None:
    box = axes.get_window_extent()
    np.testing.assert_allclose(box.width, box.height)
    assert axes.get_xlim() == axes.get_ylim()


# --- densities --------------------------------------------------------------------------------------------


def test_pair_shows_both_densities_in_the_same_colours() -> None:
    learned, target = normal((1.0, -2.0), 0.9), normal()
    figure = plane.density_pair(torch.as_tensor(learned), target, EXTENT, "NLL 2.84 nats")
    left, right = panels(figure)
    np.testing.assert_array_equal(shown(left), learned)
    np.testing.assert_array_equal(shown(right), target)
    assert (left.get_title(), right.get_title(), figure.get_suptitle()) == ("learned", "target", "NLL 2.84 nats")
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0, learned.max())
    for axes in (left, right):
        assert axes.get_xlim() == (-EXTENT, EXTENT)
        assert_square(axes)
        # The centres of the outermost pixels lie on the square's edge.
        assert axes.images[0].get_extent() == [-EXTENT - 0.05, EXTENT + 0.05] * 2


def test_a_density_is_drawn_where_it_is() -> None:
    """The darkest pixel lies at the mode, right and below the centre."""
    figure = plane.density_pair(normal((2.0, -3.0), 0.4), normal((2.0, -3.0), 0.4), EXTENT)
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3].sum(axis=-1, dtype=int)
    left, bottom, right, top = np.round(panels(figure)[0].get_window_extent().extents).astype(int)
    inside = picture[picture.shape[0] - top : picture.shape[0] - bottom, left:right][2:-2, 2:-2]
    rows, columns = np.nonzero(inside == inside.min())
    down, across = (rows.mean() + 2.5) / (top - bottom), (columns.mean() + 2.5) / (right - left)
    np.testing.assert_allclose((across * 10 - 5, 5 - down * 10), (2.0, -3.0), atol=0.05)
    assert inside[0, 0] == 3 * 255


def test_a_needle_does_not_take_the_colours_away() -> None:
    target = normal()
    needle = normal() + 2 * normal((3.0, 3.0), 0.1)
    figure = plane.density_pair(needle, target, EXTENT)
    assert panels(figure)[0].images[0].get_clim() == (0, 2 * target.max())
    assert panels(figure)[0].images[0].colorbar is None
    assert panels(figure)[1].images[0].colorbar.extend == "max"
    assert panels(plane.density_pair(target, target, EXTENT))[1].images[0].colorbar.extend == "neither"
    panel = plane.density_panel([target, target, needle], ["a", "b", "c"], 3, EXTENT)
    assert {axes.images[0].get_clim() for axes in panels(panel)} == {(0, 2 * target.max())}
    assert panels(panel)[-1].images[0].colorbar.extend == "max"


def test_what_is_not_finite_is_grey_and_scales_nothing() -> None:
    broken = normal()
    broken[:30], broken[30:40] = np.nan, np.inf
    figure = plane.density_pair(broken, normal(), EXTENT)
    axes = panels(figure)[0]
    assert np.isnan(shown(axes)[:40]).all()
    assert axes.images[0].get_clim() == (0, normal().max())
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())
    x, y = np.round(axes.transData.transform((0, -4))).astype(int)
    assert tuple(picture[picture.shape[0] - y, x, :3]) == (0xC8, 0xC8, 0xC8)
    nothing = np.full((3, 3), np.nan)
    plane.density_pair(nothing, nothing, EXTENT).savefig(BytesIO())
    plane.density_pair(0 * normal(), 0 * normal(), EXTENT).savefig(BytesIO())


def test_colours_fall_from_white_in_even_steps() -> None:
    """Lightness L* (CIE 1976) falls all the way, nowhere much faster than elsewhere."""
    rgb = plane.DENSITY(np.linspace(0, 1, 64))[:, :3]
    np.testing.assert_allclose(rgb[0], 1)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    steps = -np.diff(lightness)
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.mean()


def test_panel_shows_its_densities_row_by_row() -> None:
    densities = [normal((float(k), 0.0), 1.0) for k in range(5)]
    figure = plane.density_panel(densities, [f"k = {k}" for k in range(5)], 3, EXTENT, "Planar flows")
    shapes = [axes.get_position() for axes in panels(figure)]
    for axes, density, k in zip(panels(figure), densities, range(5), strict=True):
        np.testing.assert_array_equal(shown(axes), density)
        assert axes.get_title() == f"k = {k}"
        assert_square(axes)
    assert len({round(box.y0, 6) for box in shapes[:3]}) == len({round(box.y0, 6) for box in shapes[3:]}) == 1
    assert shapes[0].x0 < shapes[1].x0 < shapes[2].x0
    assert shapes[3].x0 == shapes[0].x0
    assert shapes[3].y1 < shapes[0].y0


# --- samples ----------------------------------------------------------------------------------------------


def test_samples_lie_over_regions_of_known_mass() -> None:
    points = samples(500)
    figure = plane.samples_over_contours(points, normal((1.0, -2.0)), EXTENT, "Samples")
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.collections[-1].get_offsets(), points)
    *_, lines = [entry for entry in axes.collections if isinstance(entry, ContourSet)]
    # A disc that holds the share m of a normal distribution has the radius √χ²₂(m).
    for segments, share in zip(lines.allsegs, (0.95, 0.75, 0.5, 0.25), strict=True):
        radius = np.concatenate([np.linalg.norm(segment - (1.0, -2.0), axis=1) for segment in segments])
        np.testing.assert_allclose(radius, chi2.ppf(share, 2) ** 0.5, rtol=0.02)
    assert "lines: 95, 75, 50, 25 % of the target" in texts(figure)
    assert axes.collections[-1].get_zorder() > lines.get_zorder()
    assert_square(axes)


def test_samples_that_cannot_be_drawn_are_counted() -> None:
    points = samples(500)
    points[:3], points[3, 0], points[4, 1] = (6.0, 0.0), np.nan, np.inf
    figure = plane.samples_over_contours(points, normal(), EXTENT)
    assert "500 samples, 5 outside" in texts(figure)
    assert "500 samples" in texts(plane.samples_over_contours(samples(500), normal(), EXTENT))


def test_a_target_without_mass_has_no_lines() -> None:
    for target in (0 * normal(), np.full((3, 3), np.nan)):
        figure = plane.samples_over_contours(samples(5), target, EXTENT)
        assert len(figure.axes[0].collections) == 1
        assert texts(figure) == ["5 samples"]


def test_a_uniform_target_is_surrounded() -> None:
    square = ((abs(X1) < 2) & (abs(X2) < 2)) / 16
    figure = plane.samples_over_contours(samples(5), square, EXTENT)
    (axes,) = figure.axes
    assert texts(figure) == ["5 samples", "lines: borders of the target"]
    *_, lines = [entry for entry in axes.collections if isinstance(entry, ContourSet)]
    ((border,),) = lines.allsegs
    np.testing.assert_allclose(np.abs(border).max(axis=1), 2, atol=0.11)  # the grid's step is 0.1


def test_many_samples_cover_less() -> None:
    few, many = (plane.samples_over_contours(samples(n), normal(), EXTENT).axes[0] for n in (100, 20_000))
    assert few.collections[-1].get_alpha() > many.collections[-1].get_alpha() > 0.1
    assert few.collections[-1].get_sizes()[0] > many.collections[-1].get_sizes()[0] >= 3


ROWS = ["w ~ N(0, 0.1)", "w ~ N(0, 0.5)", "w ~ N(0, 1)", "w ~ N(5, 0.1)"]
COLUMNS = [f"u ~ N({mean}, {variance})" for mean in (0, 2, 5) for variance in (0.1, 0.5, 1)]


def test_planar_maps_are_histograms_on_one_square() -> None:
    array = samples(4, 9, 300)
    array[1, 2] += (2.0, -4.0)
    figure = flows.planar_maps(array, ROWS, COLUMNS, "One planar map on N(0, I)")
    cells = panels(figure)
    assert len(cells) == 36
    assert len({cell.get_xlim() + cell.get_ylim() for cell in cells}) == 1
    assert [cell.get_title() for cell in cells[:9]] == COLUMNS
    assert [text.get_text() for text in figure.texts[1:]] == ROWS
    assert [cell.get_ylabel() for cell in cells] == ["x2", *[""] * 8] * 4
    assert [cell.get_xlabel() for cell in cells] == [""] * 27 + ["x1"] * 9
    end = cells[0].get_xlim()[1]
    for cell, points in zip(cells, array.reshape(36, 300, 2), strict=True):
        counts = shown(cell)
        assert counts.sum() == (np.abs(points) <= end).all(axis=1).sum() >= 299
        centres = (np.arange(len(counts)) + 0.5) / len(counts) * 2 * end - end
        mean = (counts.sum(axis=0) @ centres / counts.sum(), counts.sum(axis=1) @ centres / counts.sum())
        np.testing.assert_allclose(mean, points.mean(axis=0), atol=0.1)
        assert 0 in cell.get_xticks() and 0 in cell.get_yticks()
        assert_square(cell)


def test_planar_maps_leave_out_what_is_not_finite() -> None:
    array = samples(1, 2, 50)
    array[0, 0, :10] = np.nan
    array[0, 1] = np.inf
    first, second = panels(flows.planar_maps(array, ["w"], ["a", "b"]))
    assert shown(first).sum() == 40
    assert shown(second).sum() == 0
    with pytest.raises(ValueError, match="finite"):
        flows.planar_maps(array[:, 1:], ["w"], ["b"])


# --- animation --------------------------------------------------------------------------------------------


def frames(path: Path) -> list[tuple[np.ndarray, int]]:
    """Pictures [H, W, 3] with their durations in milliseconds."""
    found = []
    with Image.open(path) as picture:
        assert picture.format == "GIF"
        for k in range(picture.n_frames):
            picture.seek(k)
            found.append((np.asarray(picture.convert("RGB")).astype(int), picture.info["duration"]))
    return found


def coloured(picture: np.ndarray) -> np.ndarray:
    """Centre (column, row) of all coloured pixels."""
    rows, columns = np.nonzero(picture.max(axis=-1) - picture.min(axis=-1) > 40)
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize(("layers", "expected"), [(1, 13), (2, 25), (9, 64)])
def test_a_flow_moves_smoothly_through_all_layers(tmp_path: Path, layers: int, expected: int) -> None:
    file = tmp_path / "flow.gif"
    path = np.linspace(-3, 3, layers + 1)[:, None, None] + 0.3 * samples(50)
    flows.animate_flow(file, path, normal(), EXTENT, "arcs")
    found = frames(file)
    assert len(found) == expected
    assert found[0][1] == 800
    assert found[-1][1] == 2400
    assert {duration for _, duration in found[1:-1]} == {60}
    assert {picture.shape for picture, _ in found} == {(460, 420, 3)}
    assert all((picture[0, 0] == 255).all() for picture, _ in found)
    places = np.array([coloured(picture) for picture, _ in found])
    steps = np.diff(places, axis=0)
    assert (steps[:, 0] > 0).all() and (steps[:, 1] < 0).all()  # to the right and up
    # (3 + 3) of 10 units on 340 pixels.
    np.testing.assert_allclose(places[-1] - places[0], (204, -204), atol=4)
    if layers <= 2:
        assert steps[0, 0] < 0.5 * steps[5, 0]


def test_an_animation_is_small(tmp_path: Path) -> None:
    file = tmp_path / "flow.gif"
    generator = np.random.default_rng(0)
    steps = generator.normal(size=(32, 1000, 2)) * 0.3
    points = np.concatenate([samples(1, 1000), samples(1, 1000) + steps.cumsum(0)])
    flows.animate_flow(file, points, normal(), EXTENT, "arcs")
    assert file.stat().st_size < 1.5e6


def test_points_keep_the_colour_of_the_angle_at_which_they_start(tmp_path: Path) -> None:
    file = tmp_path / "flow.gif"
    angles = np.array([0.3, 2.0, 4.0, 5.5])
    start = 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    flows.animate_flow(file, np.stack([start, -start]), 0 * normal(), EXTENT)
    first, last = (frames(file)[k][0] for k in (0, -1))

    def colour(picture: np.ndarray, x1: float, x2: float) -> np.ndarray:
        row, column = round(460 - (70 + 34 * (x2 + 5))), round(60 + 34 * (x1 + 5))
        return picture[row - 1 : row + 1, column - 1 : column + 1].mean(axis=(0, 1))

    seen = []
    for (x1, x2), angle in zip(start, angles, strict=True):
        expected = 255 * (0.4 + 0.6 * np.array(flows.ANGLE(angle / (2 * np.pi))[:3]))  # translucent on white
        np.testing.assert_allclose(colour(first, x1, x2), expected, atol=20)
        np.testing.assert_allclose(colour(last, -x1, -x2), colour(first, x1, x2), atol=20)
        seen.append(colour(first, x1, x2))
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 50
    np.testing.assert_allclose(flows.ANGLE(0.0), flows.ANGLE(1.0))


def test_an_animation_shows_where_its_samples_go(tmp_path: Path) -> None:
    """The target's innermost region is the darkest, under the samples in every frame."""
    file = tmp_path / "flow.gif"
    flows.animate_flow(file, np.full((2, 1, 2), 4.0), normal((2.0, -3.0), 0.6), EXTENT, "arcs")
    for picture, _ in frames(file):
        row, column = 460 - (70 + 34 * 2), 60 + 34 * 7
        assert (picture[row, column] == picture[row, column][0]).all() and picture[row, column, 0] < 230
        assert (picture[460 - 70 - 34 * 8, 60 + 34 * 2] == 255).all()


@pytest.mark.filterwarnings("error")
def test_an_animation_goes_on_without_points_that_are_not_finite(tmp_path: Path) -> None:
    path = np.repeat(samples(1, 20), 3, axis=0) + 0.5 * np.arange(3)[:, None, None]
    path[1:, :10], path[2, 10:15] = np.inf, np.nan
    flows.animate_flow(tmp_path / "flow.gif", path, normal(), EXTENT, "diverged")
    counts = [
        (picture.max(axis=-1) - picture.min(axis=-1) > 40).sum() for picture, _ in frames(tmp_path / "flow.gif")
    ]
    assert counts[0] > 1.5 * counts[5] > 2 * counts[-1] > 0


# --- images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_temperatures_have_a_row_each(channels: int) -> None:
    images = np.random.default_rng(0).random((3, 5, channels, 8, 6))
    labels = ["T = 0.5", "T = 0.7", "T = 1"]
    figure = grids.labelled_rows(torch.as_tensor(images), labels, "Samples")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == labels
    canvas = shown(axes)
    for y, row in zip(axes.get_yticks(), images, strict=True):
        top = round(y - 3.5)
        for k, image in enumerate(row):
            found = canvas[top : top + 8, 2 + 8 * k : 8 + 8 * k]
            np.testing.assert_allclose(found, image.transpose(1, 2, 0).squeeze(), atol=1e-7)
    assert figure.get_suptitle() == "Samples"
    box = axes.get_window_extent().extents
    np.testing.assert_allclose(box, box.round(), atol=1e-6)
    assert (box[2] - box[0]) % canvas.shape[1] == pytest.approx(0, abs=1e-6)


# --- all --------------------------------------------------------------------------------------------------


def test_shapes_are_checked(tmp_path: Path) -> None:
    flat, oblong = np.zeros(4), np.zeros((4, 5))
    for wrong in (flat, oblong, np.zeros((1, 1)), np.zeros((2, 4, 4))):
        with pytest.raises(ValueError, match=r"learned must be \[N ≥ 2, N\], got shape"):
            plane.density_pair(wrong, normal(), EXTENT)
        with pytest.raises(ValueError, match="target must be"):
            plane.density_pair(normal(), wrong, EXTENT)
        with pytest.raises(ValueError, match="target must be"):
            plane.samples_over_contours(samples(5), wrong, EXTENT)
    for wrong in (flat, np.zeros((5, 3)), np.zeros((0, 2))):
        with pytest.raises(ValueError, match="samples must be"):
            plane.samples_over_contours(wrong, normal(), EXTENT)
    with pytest.raises(ValueError, match="densities must be"):
        plane.density_panel(normal(), ["a"], 1, EXTENT)
    with pytest.raises(ValueError, match="every density must be"):
        plane.density_panel([oblong], ["a"], 1, EXTENT)
    with pytest.raises(ValueError, match="in columns ≥ 1"):
        plane.density_panel([normal()], ["a"], 0, EXTENT)
    with pytest.raises(ValueError, match="2 titles"):
        plane.density_panel([normal()], ["a", "b"], 1, EXTENT)
    for wrong in (samples(4, 9, 5)[..., :1], samples(9, 5), samples(9, 4, 5)):
        with pytest.raises(ValueError, match="R = 4 rows and C = 9 columns"):
            flows.planar_maps(wrong, ROWS, COLUMNS)
    for wrong in (samples(5), samples(1, 5), np.zeros((3, 5, 3))):
        with pytest.raises(ValueError, match="points must be"):
            flows.animate_flow(tmp_path / "flow.gif", wrong, normal(), EXTENT)
    for wrong in (np.zeros((3, 4, 8, 8)), np.zeros((2, 3, 1, 8, 8))):
        with pytest.raises(ValueError, match="R = 3 labels"):
            grids.labelled_rows(wrong, ["a", "b", "c"])
    with pytest.raises(ValueError, match="1 or 3"):
        grids.labelled_rows(np.zeros((1, 3, 2, 8, 8)), ["a"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("extent", [0.0, -1.0, float("nan"), float("inf")])
def test_the_square_has_an_extent(extent: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="extent must be positive"):
        plane.density_pair(normal(), normal(), extent)
    with pytest.raises(ValueError, match="extent must be positive"):
        plane.samples_over_contours(samples(5), normal(), extent)
    with pytest.raises(ValueError, match="extent must be positive"):
        plane.density_panel([normal()], ["a"], 1, extent)
    with pytest.raises(ValueError, match="extent must be positive"):
        flows.animate_flow(tmp_path / "flow.gif", samples(2, 5), normal(), extent)
