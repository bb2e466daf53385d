"""What normalizing flows do: densities and samples in the plane, and samples that move from layer to layer.

Densities come as arrays or CPU tensors [N, N] of p(x) on a square grid, N equally spaced points from −extent to
extent in both directions: rows are x₂ ascending, columns x₁ ascending. Values that are not finite are drawn in grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from genbench.figures.animation import write_gif
from genbench.figures.grids import GAP, canvas_figure, checked_images, show_canvas, tile
from genbench.figures.style import (
    BLACK,
    BLUE,
    DPI,
    GREEN,
    GREY,
    LABEL_SIZE,
    ORANGE,
    TICK_SIZE,
    TITLE_SIZE,
    VERMILLION,
    new_figure,
)

__all__ = [
    "animate_flow",
    "density_pair",
    "density_panel",
    "planar_maps",
    "samples_over_contours",
    "temperature_rows",
]

# Of the mass, what the highest-density regions hold whose borders are drawn.
SHARES = (0.95, 0.75, 0.5, 0.25)
# A learned density may have a needle, which would take the colours away from everything else.
NEEDLE = 2.0
MOST_BINS = 100  # of a planar map's histogram, to a side: two figure pixels each

# Seconds of an animated flow, and frames from one layer to the next.
FRAME, START, END = 0.06, 0.8, 2.4
MOVING_FRAMES, MOST_PER_LAYER = 64, 12


def _from_white() -> Colormap:
    """Magma backwards, its pale yellow faded into the white of the page."""
    colours = colormaps["magma_r"](np.linspace(0, 0.95, 256))
    fade = np.linspace(1, 0, 40)[:, None] ** 1.5
    colours[:40] = fade + (1 - fade) * colours[:40]
    return ListedColormap(colours, "from white").with_extremes(bad="#C8C8C8")


DENSITY = _from_white()
# Neighbours in angle are neighbours in colour.
ANGLE = LinearSegmentedColormap.from_list("angle", [BLUE, GREEN, ORANGE, VERMILLION, "#A6559A", BLUE])


def density_pair(learned: ArrayLike, target: ArrayLike, extent: float, title: str = "") -> Figure:
    """A learned density beside its target, in the same colours.

    The colours end at twice the target's maximum, should the learned density rise above that; the colour bar
    then has a pointed end.

    Args:
        learned, target: [N ≥ 2, N], p(x) on the grid.
        extent: half the side of the square.
        title: of the picture.

    Raises:
        ValueError: for any other shape, or an extent that is not positive.
    """
    panels = [_density(learned, "learned", extent), _density(target, "target", extent)]
    highest = [_highest(values) for values in panels]
    top = min(max(highest), NEEDLE * highest[1])
    side, left, bottom, between = 3.2, 0.42, 0.32, 0.42
    figure = new_figure(left + 2 * side + between + 0.95, bottom + side + (0.62 if title else 0.3))
    _write_title(figure, title)
    for k, (values, name) in enumerate(zip(panels, ("learned", "target"), strict=True)):
        axes = _add_axes(figure, left + k * (side + between), bottom, side, side)
        image = _draw_density(axes, values, extent, top)
        _show_plane(axes, extent)
        axes.set_title(name, fontsize=LABEL_SIZE, color=BLACK)
    bar = _add_axes(figure, left + 2 * side + between + 0.14, bottom, 0.14, side)
    _draw_colour_bar(figure, image, bar, pointed=max(highest) > top)
    return figure


def samples_over_contours(samples: ArrayLike, target: ArrayLike, extent: float, title: str = "") -> Figure:
    """Samples over a map of the density that they should follow.

    The lines surround the highest-density regions with 95, 75, 50 and 25 per cent of the target's mass in the
    square; a uniform target has its border only. Samples outside the square, or not finite, cannot be drawn; the
    picture says how many.

    Args:
        samples: [S, 2].
        target: [N ≥ 2, N], p(x) on the grid.
        extent: half the side of the square.
        title: of the picture.

    Raises:
        ValueError: for any other shape, or an extent that is not positive.
    """
    density = _density(target, "target", extent)
    points = np.asarray(samples, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"samples must be [S, 2], got shape {points.shape}")
    side, left, bottom = 4.4, 0.42, 0.56
    figure = new_figure(left + side + 0.12, bottom + side + (0.4 if title else 0.1))
    _write_title(figure, title)
    axes = _add_axes(figure, left, bottom, side, side)
    levels = _levels(density)
    if levels:
        grid = np.linspace(-extent, extent, len(density))
        tints = [str(grey) for grey in np.linspace(0.96, 0.86, len(levels))]
        axes.contourf(grid, grid, density, [*levels, np.inf], colors=tints, zorder=1)
        axes.contour(grid, grid, density, levels, colors=GREY, linewidths=0.7, zorder=2)
    _scatter(axes, points, BLUE, 400)
    _show_plane(axes, extent)
    outside = len(points) - int((np.abs(points) <= extent).all(axis=1).sum())
    notes = [(0.0, "left", BLUE, f"{len(points)} samples" + (f", {outside} outside" if outside else ""))]
    if levels:
        shares = ", ".join(f"{100 * share:.0f}" for share in SHARES)
        told = f"{shares} % of the target" if len(levels) == len(SHARES) else "borders of the target"
        notes.append((1.0, "right", GREY, f"lines: {told}"))
    for x, align, colour, text in notes:
        below: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
        axes.annotate(text, (x, 0), (0, -22), ha=align, fontsize=TICK_SIZE, color=colour, **below)
    return figure


def density_panel(
    densities: ArrayLike, titles: Sequence[str], columns: int, extent: float, title: str = ""
) -> Figure:
    """Several densities on the same square, row by row, in the same colours.

    The colours end at twice the median of the densities' maxima, should any rise above that; the colour bar
    then has a pointed end.

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
    top = min(max(highest), NEEDLE * float(np.median(highest)))
    rows, columns = math.ceil(len(panels) / columns), min(columns, len(panels))
    side, edge, between, name = 1.9, 0.1, 0.1, 0.27
    right = edge + columns * (side + between)
    figure = new_figure(right + 0.8, edge + rows * (side + name) + (0.4 if title else 0.08))
    _write_title(figure, title)
    for k, (values, label) in enumerate(zip(panels, titles, strict=True)):
        row, column = divmod(k, columns)
        axes = _add_axes(
            figure, edge + column * (side + between), edge + (rows - 1 - row) * (side + name), side, side
        )
        image = _draw_density(axes, values, extent, top)
        _hide_ticks(axes, extent)
        axes.set_title(label, fontsize=LABEL_SIZE, color=BLACK, pad=3.5)
    bar = _add_axes(figure, right + 0.04, edge, 0.12, rows * (side + name) - name)
    _draw_colour_bar(figure, image, bar, pointed=max(highest) > top)
    return figure


def planar_maps(samples: ArrayLike, rows: Sequence[str], columns: Sequence[str], title: str = "") -> Figure:
    """What single random planar maps make of normal samples, one map to a cell.

    Every cell is a histogram on the same square, which holds at least 99.9 per cent of each map's coordinates.
    Colours go with the square root of the count and end at the most crowded bin of the cell.

    Args:
        samples: [R, C, S, 2].
        rows, columns: names of the R rows and the C columns.
        title: of the picture.

    Raises:
        ValueError: for any other shape, another number of names, or if no sample is finite.
    """
    array = np.asarray(samples, dtype=np.float64)
    if array.ndim != 4 or array.shape[-1] != 2 or not array.size or array.shape[:2] != (len(rows), len(columns)):
        raise ValueError(
            f"samples must be [R, C, S, 2] with R = {len(rows)} rows and C = {len(columns)} columns, got shape "
            f"{array.shape}"
        )
    sizes = [np.abs(cell[np.isfinite(cell)]) for cell in array.reshape(-1, array.shape[2] * 2)]
    reach = [float(np.quantile(size, 0.999, method="higher")) for size in sizes if size.size]
    if not reach:
        raise ValueError("no sample is finite")
    extent = max(reach) or 1.0
    bins = min(max(round(array.shape[2] ** 0.5), 40), MOST_BINS)
    edges = np.linspace(-extent, extent, bins + 1)
    side, edge, between, name = 1.32, 0.08, 0.07, 0.27
    left = edge + _widest(rows, LABEL_SIZE) + 0.1
    width = left + len(columns) * (side + between) - between + edge
    figure = new_figure(width, edge + len(rows) * (side + between) - between + name + (0.36 if title else 0.04))
    _write_title(figure, title)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            bottom = edge + (len(rows) - 1 - i) * (side + between)
            axes = _add_axes(figure, left + j * (side + between), bottom, side, side)
            x1, x2 = array[i, j].T
            counts, *_ = np.histogram2d(x2, x1, bins=[edges, edges])
            style: dict[str, Any] = {"origin": "lower", "interpolation": "nearest", "aspect": "auto"}
            span = (-extent, extent, -extent, extent)
            axes.imshow(counts, cmap=DENSITY, norm=PowerNorm(0.5, 0, max(counts.max(), 1)), extent=span, **style)
            _hide_ticks(axes, extent)
            if i == 0:
                axes.set_title(column, fontsize=LABEL_SIZE, color=BLACK, pad=3.5)
            if j == 0:
                axes.set_ylabel(row, fontsize=LABEL_SIZE, color=BLACK, rotation=0, ha="right", va="center")
    return figure


def animate_flow(path: str | Path, points: ArrayLike, extent: float, title: str = "") -> None:
    """Writes a GIF of samples that move through the layers of a flow, coloured by the angle at which they start.

    From layer to layer they move in straight lines, slower at both ends. Samples outside the square, or not finite,
    are not drawn. With a thousand samples the file has about 1 MB.

    Args:
        path: of the GIF, overwritten.
        points: [K + 1 ≥ 2, S, 2], before any layer and after each.
        extent: half the side of the square.
        title: of the picture, to which the number of the layer is added.

    Raises:
        ValueError: for any other shape, or an extent that is not positive.
    """
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 3 or array.shape[2] != 2 or len(array) < 2 or not array.size:
        raise ValueError(f"points must be [K + 1 ≥ 2, S, 2], got shape {array.shape}")
    _check_extent(extent)
    array = np.where(np.isfinite(array), array, np.nan)
    layers = len(array) - 1
    figure = new_figure(3.9, 4.2)
    axes = _add_axes(figure, 0.4, 0.3, 3.4, 3.4)
    angles = np.arctan2(array[0, :, 1], array[0, :, 0]) / (2 * math.pi) % 1
    marks = _scatter(axes, array[0], ANGLE(angles), 900)
    _show_plane(axes, extent)
    caption = figure.suptitle(title, fontsize=TITLE_SIZE, color=BLACK)
    steps = min(MOST_PER_LAYER, max(1, MOVING_FRAMES // layers))

    def drawn() -> Iterator[float]:
        for frame in range(layers * steps + 1):
            layer, step = divmod(frame, steps)
            share = step / steps
            eased = share**2 * (3 - 2 * share)
            following = array[layer + 1] if step else array[layer]
            marks.set_offsets((1 - eased) * array[layer] + eased * following)
            caption.set_text(f"{title}, layer {math.ceil(frame / steps)} of {layers}".removeprefix(", "))
            yield START if frame == 0 else END if frame == layers * steps else FRAME

    write_gif(path, figure, drawn(), dpi=100)


def temperature_rows(images: ArrayLike, labels: Sequence[str], title: str = "") -> Figure:
    """Rows of images, each with a name: the same base samples, scaled by another temperature in every row.

    Args:
        images: [R, N, 1 or 3, H, W] in [0, 1].
        labels: R of them, such as "T = 0.7".
        title: of the picture.

    Raises:
        ValueError: for any other shape or another number of labels.
    """
    array = np.asarray(images, dtype=np.float64)
    if array.ndim != 5 or not array.size or len(labels) != len(array):
        raise ValueError(f"images must be [R = {len(labels)} labels, N, 1 or 3, H, W], got shape {array.shape}")
    rows, columns, channels, height, width = array.shape
    canvas = tile(checked_images(array.reshape(-1, channels, height, width)), rows, columns, GAP)
    left = math.ceil((_widest(labels, TICK_SIZE) + 0.16) * DPI) / DPI  # whole pixels
    figure, (axes,) = canvas_figure([canvas], title, left=left)
    show_canvas(axes, canvas)
    axes.set_yticks([GAP + k * (height + GAP) + height / 2 - 0.5 for k in range(rows)], labels)
    axes.tick_params(axis="y", length=0, labelsize=TICK_SIZE, labelcolor=BLACK)
    return figure


def _check_extent(extent: float) -> None:
    if not 0 < extent < math.inf:
        raise ValueError(f"extent must be positive, got {extent}")


def _density(values: ArrayLike, name: str, extent: float) -> NDArray[np.float64]:
    _check_extent(extent)
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or len(array) < 2:
        raise ValueError(f"{name} must be [N ≥ 2, N], got shape {array.shape}")
    return array


def _highest(density: NDArray[np.float64]) -> float:
    return float(density[np.isfinite(density)].max(initial=0.0))


def _levels(density: NDArray[np.float64]) -> list[float]:
    """Ascending p such that where the density is at least p there are SHARES of its mass."""
    falling = np.sort(density[np.isfinite(density)])[::-1]
    mass = falling.cumsum()
    if not mass.size or mass[-1] <= 0:
        return []
    # A plateau, as of a uniform distribution, is surrounded just below its height.
    levels = [min(falling[np.searchsorted(mass, share * mass[-1])], 0.999 * falling[0]) for share in SHARES]
    return [float(level) for level in np.unique(levels)]


def _widest(texts: Sequence[str], size: float) -> float:
    """Inches that the longest text takes."""
    return max(float(TextPath((0, 0), text, size=size).get_extents().x1) for text in texts) / 72


def _write_title(figure: Figure, title: str) -> None:
    if title:
        figure.suptitle(title, y=1 - 0.1 / figure.get_figheight(), va="top", fontsize=TITLE_SIZE, color=BLACK)


def _add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes whose place is given in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _draw_density(axes: Axes, values: NDArray[np.float64], extent: float, top: float) -> AxesImage:
    # Grid points are the centres of pixels, so the outermost pixels end half a step beyond the square.
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


def _scatter(axes: Axes, points: NDArray[np.float64], colour: Any, crowd: int) -> Any:
    """Translucent marks; they cover the less, the more of them there are than `crowd`."""
    thin = min(1.0, (crowd / len(points)) ** 0.5)
    x1, x2 = points.T
    return axes.scatter(x1, x2, s=3 + 6 * thin, c=colour, alpha=0.12 + 0.48 * thin, linewidths=0, zorder=3)


def _show_plane(axes: Axes, extent: float) -> None:
    """The square with a few small ticks."""
    _hide_ticks(axes, extent)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=TICK_SIZE, color=GREY, labelcolor=BLACK)


def _hide_ticks(axes: Axes, extent: float) -> None:
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), xticks=[], yticks=[])
    axes.spines[:].set_color("#BBBBBB")
    axes.spines[:].set_linewidth(0.6)
