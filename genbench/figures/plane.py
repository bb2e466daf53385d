"""Densities and samples in the plane.

Densities come as arrays or CPU tensors [N, N] of p(x) on a square grid, N equally spaced points from −extent to
extent in both directions: rows are x₂ ascending, columns x₁ ascending. Values that are not finite are drawn in grey.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from genbench.figures.style import (
    BLACK,
    BLUE,
    GREY,
    LABEL_SIZE,
    TICK_SIZE,
    new_figure,
)

__all__ = [
    "DENSITY",
    "add_axes",
    "check_extent",
    "density_pair",
    "density_panel",
    "draw_contours",
    "samples_over_contours",
    "scatter",
    "show_plane",
]

# Shares of the mass in the highest-density regions whose borders are drawn.
MASS_SHARES = (0.95, 0.75, 0.5, 0.25)
# Colours end at this multiple of a typical maximum: a narrow peak would leave none for the rest.
COLOUR_LIMIT = 2.0
WIDEST_TITLE = 26  # characters of a line above a panel


def _from_white() -> Colormap:
    """Reversed magma, its pale yellow faded into white."""
    colours = colormaps["magma_r"](np.linspace(0, 0.95, 256))
    fade = np.linspace(1, 0, 40)[:, None] ** 1.5
    colours[:40] = fade + (1 - fade) * colours[:40]
    return ListedColormap(colours, "from white").with_extremes(bad="#C8C8C8")


DENSITY = _from_white()


def density_pair(learned: ArrayLike, target: ArrayLike, extent: float, title: str = "") -> Figure:
    """A learned density and its target, in the same colours.

    The colours end at twice the target's maximum if the learned density exceeds it; the colour bar then has a pointed
    end.

    Args:
        learned, target: [N ≥ 2, N], p(x) on the grid.
        extent: half the side of the square.
        title: of the picture.

    Raises:
        ValueError: for any other shape, or an extent that is not positive.
    """
    panels = [_density(learned, "learned", extent), _density(target, "target", extent)]
    highest = [_highest(values) for values in panels]
    top = min(max(highest), COLOUR_LIMIT * highest[1])
    side, left, bottom, between = 3.2, 0.62, 0.48, 0.32
    figure = new_figure(left + 2 * side + between + 0.95, bottom + side + (0.62 if title else 0.3), title)
    for k, (values, name) in enumerate(zip(panels, ("learned", "target"), strict=True)):
        axes = add_axes(figure, left + k * (side + between), bottom, side, side)
        image = _draw_density(axes, values, extent, top)
        show_plane(axes, extent, left=k == 0)
        axes.set_title(name, fontsize=LABEL_SIZE, color=BLACK)
    bar = add_axes(figure, left + 2 * side + between + 0.14, bottom, 0.14, side)
    _draw_colour_bar(figure, image, bar, pointed=max(highest) > top)
    return figure


def samples_over_contours(samples: ArrayLike, target: ArrayLike, extent: float, title: str = "") -> Figure:
    """Samples over a contour map of their target density.

    The lines surround the highest-density regions with 95, 75, 50 and 25 per cent of the target's mass in the
    square; of a uniform target they show the border only. Samples that are outside of the square or not finite are
    not drawn; a note gives their number.

    Args:
        samples: [S, 2].
        target: [N ≥ 2, N], p(x) on the grid.
        extent: half the side of the square.
        title: of the picture.

    Raises:
        ValueError: for any other shape, or an extent that is not positive.
    """
    points = np.asarray(samples, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"samples must be [S, 2], got shape {points.shape}")
    side, left, bottom = 4.4, 0.62, 0.7
    figure = new_figure(left + side + 0.12, bottom + side + (0.4 if title else 0.1), title)
    axes = add_axes(figure, left, bottom, side, side)
    told = draw_contours(axes, target, extent)
    scatter(axes, points, BLUE, 400)
    show_plane(axes, extent)
    outside = len(points) - int((np.abs(points) <= extent).all(axis=1).sum())
    left_note = f"{len(points)} samples" + (f", {outside} outside" if outside else "")
    for x, align, colour, text in ((0.0, "left", BLUE, left_note), (1.0, "right", GREY, told)):
        if text:
            below: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
            axes.annotate(text, (x, 0), (0, -34), ha=align, fontsize=TICK_SIZE, color=colour, **below)
    return figure


def draw_contours(axes: Axes, target: ArrayLike, extent: float) -> str:
    """The borders of a target's highest-density regions [N ≥ 2, N]; returns what the lines say, nothing without mass.

    Raises:
        ValueError: for any other shape.
    """
    density = _density(target, "target", extent)
    levels = _levels(density)
    if not levels:
        return ""
    grid = np.linspace(-extent, extent, len(density))
    tints = [str(grey) for grey in np.linspace(0.96, 0.86, len(levels))]
    axes.contourf(grid, grid, density, [*levels, np.inf], colors=tints, zorder=1)
    axes.contour(grid, grid, density, levels, colors=GREY, linewidths=0.7, zorder=2)
    shares = ", ".join(f"{100 * share:.0f}" for share in MASS_SHARES)
    return f"lines: {f'{shares} % of' if len(levels) == len(MASS_SHARES) else 'borders of'} the target"


def density_panel(
    densities: ArrayLike, titles: Sequence[str], columns: int, extent: float, title: str = ""
) -> Figure:
    """Several densities on the same square, row by row, in the same colours.

    The colours end at twice the median of the densities' maxima if any exceeds it; the colour bar then has a pointed
    end.

    Args:
        densities: [M, N ≥ 2, N], p(x) on the grid.
        titles: M of them.
        columns: of the panel, at least 1.
        extent: half the side of the square.
        title: of the picture.

    Raises:
        ValueError: for any other shape, another number of titles, or an extent that is not positive.
    """
    array = np.asarray(densities, dtype=np.float64)
    if array.ndim != 3 or not len(array) or columns < 1:
        raise ValueError(f"densities must be [M, N, N] in columns ≥ 1, got shape {array.shape} and {columns}")
    if len(titles) != len(array):
        raise ValueError(f"densities have shape {array.shape}, but there are {len(titles)} titles")
    panels = [_density(values, "every density", extent) for values in array]
    highest = [_highest(values) for values in panels]
    top = min(max(highest), COLOUR_LIMIT * float(np.median(highest)))
    rows, columns = math.ceil(len(panels) / columns), min(columns, len(panels))
    titles = [textwrap.fill(label, WIDEST_TITLE) for label in titles]
    side, left, bottom, between = 1.86, 0.62, 0.46, 0.1
    name = 0.12 + 0.15 * max(label.count("\n") + 1 for label in titles)
    right = left + columns * (side + between)
    figure = new_figure(right + 0.8, bottom + rows * (side + name) + (0.4 if title else 0.08), title)
    for k, (values, label) in enumerate(zip(panels, titles, strict=True)):
        row, column = divmod(k, columns)
        axes = add_axes(
            figure, left + column * (side + between), bottom + (rows - 1 - row) * (side + name), side, side
        )
        image = _draw_density(axes, values, extent, top)
        show_plane(axes, extent, left=column == 0, below=k + columns >= len(panels))
        axes.set_title(label, fontsize=LABEL_SIZE, color=BLACK, pad=3.5)
    bar = add_axes(figure, right + 0.04, bottom, 0.12, rows * (side + name) - name)
    _draw_colour_bar(figure, image, bar, pointed=max(highest) > top)
    return figure


def check_extent(extent: float) -> None:
    if not 0 < extent < math.inf:
        raise ValueError(f"extent must be positive, got {extent}")


def _density(values: ArrayLike, name: str, extent: float) -> NDArray[np.float64]:
    check_extent(extent)
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or len(array) < 2:
        raise ValueError(f"{name} must be [N ≥ 2, N], got shape {array.shape}")
    return array


def _highest(density: NDArray[np.float64]) -> float:
    return float(density[np.isfinite(density)].max(initial=0.0))


def _levels(density: NDArray[np.float64]) -> list[float]:
    """Ascending levels p: the regions of density at least p hold MASS_SHARES of its mass."""
    falling = np.sort(density[np.isfinite(density)])[::-1]
    mass = falling.cumsum()
    if not mass.size or mass[-1] <= 0:
        return []
    # The contour of a plateau, as of a uniform density, is just below its height.
    levels = [min(falling[np.searchsorted(mass, share * mass[-1])], 0.999 * falling[0]) for share in MASS_SHARES]
    return [float(level) for level in np.unique(levels)]


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes with position and size in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _draw_density(axes: Axes, values: NDArray[np.float64], extent: float, top: float) -> AxesImage:
    # Grid points are pixel centres, so the outermost pixels end half a step beyond the square.
    end = extent + extent / (len(values) - 1)
    style: dict[str, Any] = {"origin": "lower", "interpolation": "bilinear", "aspect": "auto"}
    shown = np.ma.masked_invalid(values)
    return axes.imshow(shown, cmap=DENSITY, vmin=0, vmax=top or 1.0, extent=(-end, end, -end, end), **style)


def _draw_colour_bar(figure: Figure, image: AxesImage, place: Axes, pointed: bool) -> None:
    bar = figure.colorbar(image, cax=place, extend="max" if pointed else "neither", extendfrac=0.04)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    bar.ax.set_title("p(x)", fontsize=TICK_SIZE, color=BLACK, pad=4)
    bar.ax.tick_params(labelsize=TICK_SIZE, color=GREY, labelcolor=BLACK)
    bar.outline.set_edgecolor(GREY)
    bar.outline.set_linewidth(0.6)


def scatter(axes: Axes, points: NDArray[np.float64], colour: Any, crowd: int) -> Any:
    """Translucent marks, smaller and fainter if there are more than `crowd`."""
    thin = min(1.0, (crowd / len(points)) ** 0.5)
    x1, x2 = points.T
    return axes.scatter(x1, x2, s=3 + 6 * thin, c=colour, alpha=0.12 + 0.48 * thin, linewidths=0, zorder=3)


def show_plane(axes: Axes, extent: float, left: bool = True, below: bool = True, most: int = 6) -> None:
    """The square with a few small ticks; their numbers and the name of the axis where no neighbour has them."""
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent))
    axes.spines[:].set_color("#BBBBBB")
    axes.spines[:].set_linewidth(0.6)
    places = _ticks(extent, most)
    axes.set(xticks=places, yticks=places)
    axes.tick_params(labelsize=TICK_SIZE, color=GREY, labelcolor=BLACK, length=2.5, labelleft=left, labelbottom=below)
    for axis, name, shown in ((axes.xaxis, "x1", below), (axes.yaxis, "x2", left)):
        axis.set_label_text(name if shown else "", fontsize=LABEL_SIZE, color=BLACK)
        axis.labelpad = 1.5


def _ticks(extent: float, most: int) -> NDArray[np.float64]:
    """Round numbers, none so near a corner that it would meet a neighbour's."""
    for count in (most, 2 * most):
        places = MaxNLocator(nbins=count, steps=[1, 2, 5, 10]).tick_values(-extent, extent)
        inner = np.asarray(places)[np.abs(places) <= 0.85 * extent]
        if len(inner) > 1:
            break
    return inner
