"""Pictures of image GANs and of estimated divergences show the numbers and images they are given."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from genbench.figures import divergences, walks
from genbench.figures.classes import class_bars
from genbench.figures.style import BLUE, DPI


def line(axes: Axes, label: str) -> np.ndarray:
    (found,) = [entry for entry in axes.lines if entry.get_label() == label]
    return found.get_xydata()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def ticks(axes: Axes, axis: str) -> list[str]:
    """Labels of the ticks within the range."""
    low, high = sorted(getattr(axes, f"get_{axis}lim")())
    places, labels = getattr(axes, f"get_{axis}ticks")(), getattr(axes, f"get_{axis}ticklabels")()
    return [label.get_text() for place, label in zip(places, labels, strict=True) if low <= place <= high]


def rendered(figure: Figure) -> np.ndarray:
    file = BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


# --- images -----------------------------------------------------------------------------------------------


def shown(figure: Figure) -> np.ndarray:
    """The canvas in image pixels, [height, width] or [height, width, 3]."""
    return np.asarray(figure.axes[0].images[0].get_array())


def assert_pixels_are_whole(figure: Figure) -> None:
    """Where the panel lies, the picture is the canvas with every pixel repeated."""
    canvas, picture = shown(figure), rendered(figure).astype(int)
    canvas = np.repeat(canvas[..., None], 3, axis=-1) if canvas.ndim == 2 else canvas
    box = figure.axes[0].get_window_extent().extents
    left, bottom, right, top = np.round(box).astype(int)
    np.testing.assert_allclose(box, (left, bottom, right, top), atol=1e-6)
    scale = (right - left) // canvas.shape[1]
    assert scale >= 1
    assert (right - left, top - bottom) == (scale * canvas.shape[1], scale * canvas.shape[0])
    part = picture[picture.shape[0] - top : picture.shape[0] - bottom, left:right]
    expected = (canvas * 255).round().repeat(scale, 0).repeat(scale, 1)
    assert np.abs(part - expected).max() <= 2  # the grey map has 256 entries, and the picture 8 bits
    assert picture.shape[0] == round(figure.get_figheight() * DPI)
    assert picture.shape[1] == round(figure.get_figwidth() * DPI)


def image(figure: Figure, row: float, column: float, size: tuple[int, int]) -> np.ndarray:
    """The image around the point (row, column) of the canvas, [C, H, W]."""
    height, width = size
    top, left = round(row - (height - 1) / 2), round(column - (width - 1) / 2)
    part = shown(figure)[top : top + height, left : left + width]
    return part[None] if part.ndim == 2 else part.transpose(2, 0, 1)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("labels", [None, ("a 3", "a 7")])
def test_latent_walk_shows_its_images_in_order(channels: int, labels: tuple[str, str] | None) -> None:
    images = noise(9, channels, 8, 6)
    figure = walks.latent_walk(torch.as_tensor(images), "Latent walk", labels)
    (axes,) = figure.axes
    assert ticks(axes, "x") == ["α = 0", "1/8", "1/4", "3/8", "1/2", "5/8", "3/4", "7/8", "1"]
    for x, expected in zip(axes.get_xticks(), images, strict=True):
        found = image(figure, shown(figure).shape[0] / 2 - 0.5, x, (8, 6))
        np.testing.assert_allclose(found, np.broadcast_to(expected, (3, 8, 6)), atol=1e-7)
    assert texts(figure) == list(labels or ())
    assert figure.get_suptitle() == "Latent walk"


def test_latent_walk_frames_its_ends_only() -> None:
    figure = walks.latent_walk(np.zeros((9, 1, 8, 6)))
    framed = np.isclose(shown(figure), to_rgb(BLUE)).all(axis=-1)
    ring = 10 * 8 - 8 * 6
    assert framed.sum() == 2 * ring
    assert framed[:, :10].sum() == framed[:, -10:].sum() == ring


def test_latent_walk_writes_its_ends_above_them() -> None:
    figure = walks.latent_walk(noise(9, 3, 32, 32), "Latent walk", ("an automobile, framed", "an airplane, framed"))
    figure.canvas.draw()
    left, _, right, top = figure.axes[0].get_window_extent().extents
    first, last = (text.get_window_extent() for text in figure.axes[0].texts)
    assert left < first.x0 < first.x1 < last.x0 < last.x1 < right
    assert min(first.y0, last.y0) >= top


def test_perturbations_are_ranked_by_their_change() -> None:
    images = noise(3, 5, 1, 4, 6)
    figure = walks.perturbations(images, [0.02, 0.123, 0.05], [5, 37, 127], [-2, -1, 0, 1, 2.5], "Disentanglement")
    (axes,) = figure.axes
    assert ticks(axes, "x") == ["−2", "−1", "0", "+1", "+2.5"]
    assert ticks(axes, "y") == ["z37  Δ 0.123", "z127  Δ 0.050", "z5  Δ 0.020"]
    for y, row in zip(axes.get_yticks(), (1, 2, 0), strict=True):
        for x, expected in zip(axes.get_xticks(), images[row], strict=True):
            np.testing.assert_allclose(image(figure, y, x, (4, 6)), expected, atol=1e-7)
    assert texts(figure) == ["offset (σ)"]
    assert axes.get_xlabel().startswith("Δ: mean change of a pixel")


def test_perturbations_without_any_change_keep_their_order() -> None:
    figure = walks.perturbations(noise(2, 3, 1, 4, 4), [0.0, 0.0], [3, 1], [-1 / 3, 0, 1 / 3])
    assert ticks(figure.axes[0], "y") == ["z3  Δ 0.00", "z1  Δ 0.00"]
    assert ticks(figure.axes[0], "x") == ["−0.333", "0", "+0.333"]


def test_interpolations_in_pixels_lie_below_those_in_latent_space() -> None:
    alphas = np.linspace(0, 1, 11)
    latent, pixel = noise(3, 11, 3, 4, 6), 1 - noise(3, 11, 3, 4, 6)
    figure = walks.interpolations(torch.as_tensor(latent), pixel, list(alphas), "Interpolation")
    (axes,) = figure.axes
    assert ticks(axes, "x") == ["0", *(f"0.{k}" for k in range(1, 10)), "1"]
    assert ticks(axes, "y") == ["latent", "pixels"] * 3
    assert texts(figure) == ["α"]
    for k, y in enumerate(axes.get_yticks()):
        for x, expected in zip(axes.get_xticks(), (pixel if k % 2 else latent)[k // 2], strict=True):
            np.testing.assert_allclose(image(figure, y, x, (4, 6)), expected, atol=1e-7)
    apart = np.diff(axes.get_yticks())
    assert (apart[::2] < apart[1::2][0]).all()


PICTURES: dict[str, Callable[[int, int], Figure]] = {
    "walk": lambda c, size: walks.latent_walk(noise(9, c, size, size), "Latent walk", ("a 3", "a 7")),
    "walk, bare": lambda c, size: walks.latent_walk(noise(9, c, size, size)),
    "perturbations": lambda c, size: walks.perturbations(
        noise(8, 7, c, size, size), [0.1] * 8, [127] * 8, list(np.linspace(-1, 1, 7)), "Disentanglement"
    ),
    "many perturbations": lambda c, size: walks.perturbations(
        noise(20, 5, c, size, size), [0.0123] * 20, [1] * 20, [-3, -1.5, 0, 1.5, 3]
    ),
    "interpolations": lambda c, size: walks.interpolations(
        noise(4, 11, c, size, size), noise(4, 11, c, size, size), list(np.linspace(0, 1, 11)), "Interpolation"
    ),
}


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
@pytest.mark.parametrize("name", PICTURES)
def test_image_pixels_are_whole(name: str, channels: int, size: int) -> None:
    figure = PICTURES[name](channels, size)
    assert_pixels_are_whole(figure)
    assert rendered(figure).shape[0] <= 1500


def test_images_have_the_right_shapes() -> None:
    flat, deep = np.zeros((9, 28, 28)), np.zeros((2, 11, 2, 4, 4))
    with pytest.raises(ValueError, match=r"\(9, 28, 28\)"):
        walks.latent_walk(flat)
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4\)"):
        walks.latent_walk(np.zeros((1, 1, 4, 4)))
    with pytest.raises(ValueError, match=r"\(9, 28, 28\)"):
        walks.perturbations(flat, [0.1] * 9, list(range(9)), [0.0] * 28)
    with pytest.raises(ValueError, match=r"\(2, 11, 2, 4, 4\)"):
        walks.interpolations(deep, deep, [0.1] * 11)
    with pytest.raises(ValueError, match=r"pixel must be .*\(2, 11, 4, 4\)"):
        walks.interpolations(np.zeros((2, 11, 1, 4, 4)), np.zeros((2, 11, 4, 4)), [0.1] * 11)


def test_names_of_rows_and_columns_are_as_many_as_these() -> None:
    images = np.zeros((2, 3, 1, 4, 4))
    walks.perturbations(images, [0.1, 0.1], [0, 1], [-1, 0, 1])
    for changes, dimensions, offsets in (
        ([0.1], [0, 1], [-1, 0, 1]),
        ([0.1, 0.1], [0, 1, 2], [-1, 0, 1]),
        ([0.1, 0.1], [0, 1], [-1, 1]),
    ):
        with pytest.raises(ValueError, match=r"\(2, 3, 1, 4, 4\)"):
            walks.perturbations(images, changes, dimensions, offsets)
    with pytest.raises(ValueError, match="4 alphas"):
        walks.interpolations(images, images, [0, 0.3, 0.6, 1])
    with pytest.raises(ValueError, match=r"\(1, 3, 1, 4, 4\)"):
        walks.interpolations(images, images[:1], [0, 0.5, 1])


# --- estimated divergences --------------------------------------------------------------------------------

THETA = np.linspace(0, 2, 9)
JUMPING = np.where(THETA > 0, 2.0, 0.0)


def test_divergence_curve_shows_estimates_beside_the_truth() -> None:
    figure = divergences.divergence_curve(THETA, THETA + 0.125, THETA, 0.0, "W1", "Segments")
    (axes,) = figure.axes
    np.testing.assert_array_equal(line(axes, "estimate"), np.stack([THETA, THETA + 0.125], axis=1))
    np.testing.assert_array_equal(line(axes, "true value"), [(0, 0), (2, 2)])
    assert (axes.get_xlabel(), axes.get_ylabel(), figure.get_suptitle()) == ("θ", "W1", "Segments")
    assert texts(figure) == ["mean absolute error 0.125"]
    assert [text.get_text() for text in axes.get_legend().texts] == ["true value", "estimate"]


def test_several_seeds_are_a_mean_with_their_range() -> None:
    runs = torch.as_tensor(np.stack([THETA, THETA + 0.1, THETA + 0.5]))
    figure = divergences.divergence_curve(THETA, runs, THETA, 0.0, "W1", "Segments")
    (axes,) = figure.axes
    (bars,) = axes.containers
    assert "3 seeds" in bars.get_label()
    marks, _, (spans,) = bars.lines
    np.testing.assert_allclose(marks.get_xydata(), np.stack([THETA, THETA + 0.2], axis=1))
    segments = np.array(spans.get_segments())
    np.testing.assert_allclose(segments[:, 0], np.stack([THETA, THETA], axis=1))
    np.testing.assert_allclose(segments[:, 1], np.stack([THETA, THETA + 0.5], axis=1))
    assert texts(figure) == ["mean absolute error 0.2"]


def test_a_jump_is_closed_at_the_value_and_open_at_the_limit() -> None:
    figure = divergences.divergence_curve(THETA, np.full(9, 1.5), JUMPING, 2.0, "squared Hellinger")
    (axes,) = figure.axes
    np.testing.assert_array_equal(line(axes, "true value"), [(0, 2), (2, 2)])
    marks = {entry.get_label(): entry for entry in axes.lines}
    closed, opened = marks["_value at the jump"], marks["_limit at the jump"]
    np.testing.assert_array_equal(closed.get_xydata(), [(0, 0)])
    np.testing.assert_array_equal(opened.get_xydata(), [(0, 2)])
    assert same_color(closed.get_markerfacecolor(), closed.get_markeredgecolor())
    assert same_color(opened.get_markerfacecolor(), "white")
    # No line leads from the value to the limit.
    assert not any(np.ptp(entry.get_ydata()) == 2 for entry in axes.lines)
    # At 0 the error is 1.5, at the other eight 0.5.
    assert texts(figure) == [f"mean absolute error {(1.5 + 8 * 0.5) / 9:.3g}"]


def test_estimates_that_are_not_finite_are_counted() -> None:
    runs = np.stack([THETA, THETA + 0.5])
    runs[0, 3], runs[:, 5] = np.nan, np.inf
    figure = divergences.divergence_curve(THETA, runs, THETA, 0.0, "W1")
    assert set(texts(figure)) == {f"mean absolute error {8 * 0.5 / 15:.3g}", "3 of 18 estimates not finite"}
    marks = figure.axes[0].containers[0].lines[0].get_xydata()[:, 1]
    assert marks[3] == THETA[3] + 0.5
    assert np.flatnonzero(np.isnan(marks)).tolist() == [5]
    nothing = divergences.divergence_curve(THETA, np.full(9, np.nan), THETA, 0.0, "W1")
    assert texts(nothing) == ["9 of 9 estimates not finite"]
    nothing.savefig(BytesIO())


@pytest.mark.parametrize("estimates", [np.zeros(8), np.zeros((9, 2)), np.zeros((0, 9))])
def test_divergence_curve_refuses_what_it_cannot_draw(estimates: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"T = 9 θ, got \("):
        divergences.divergence_curve(THETA, estimates, THETA, 0.0, "W1")


def test_class_shares_stand_beside_those_of_the_data() -> None:
    shares, expected = [0.5, 0.3, 0.2], [0.4, 0.6, 0.0]
    (axes,) = class_bars(shares, expected, "GAN").axes
    data, generated = ([bar.get_height() for bar in container] for container in axes.containers)
    assert (data, generated) == (expected, shares)
    assert ticks(axes, "x") == ["0", "1", "none"]
