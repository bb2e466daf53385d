"""Normalizing flows at work: planar maps of normal samples, samples moving through layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from genbench.figures.animation import write_gif
from genbench.figures.plane import DENSITY, add_axes, check_extent, draw_contours, scatter, show_plane
from genbench.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LABEL_SIZE,
    ORANGE,
    TICK_SIZE,
    VERMILLION,
    new_figure,
    text_width,
    write_title,
)

__all__ = ["animate_flow", "planar_maps"]

MAX_BINS = 100  # per side of a planar map's histogram: two figure pixels each

# Seconds of an animated flow, and frames from one layer to the next.
FRAME, START, END = 0.06, 0.8, 2.4
MOVING_FRAMES, MAX_FRAMES_PER_LAYER = 64, 12

# A cyclic colour map.
ANGLE = LinearSegmentedColormap.from_list("angle", [BLUE, GREEN, ORANGE, VERMILLION, "#A6559A", BLUE])


def planar_maps(samples: ArrayLike, rows: Sequence[str], columns: Sequence[str], title: str = "") -> Figure:
    """Images of normal samples under single random planar maps, one map per cell.

    Every cell is a histogram on the same square, which holds at least 99.9 per cent of each map's coordinates.
    Colours show the square root of the count, up to the cell's highest bin.

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
    bins = min(max(round(array.shape[2] ** 0.5), 40), MAX_BINS)
    edges = np.linspace(-extent, extent, bins + 1)
    side, edge, below, between, name = 1.32, 0.08, 0.45, 0.07, 0.27
    written = edge + text_width(rows, LABEL_SIZE)
    left = written + 0.6
    width = left + len(columns) * (side + between) - between + edge
    height = below + len(rows) * (side + between) - between + name + (0.36 if title else 0.04)
    figure = new_figure(width, height, title)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            bottom = below + (len(rows) - 1 - i) * (side + between)
            axes = add_axes(figure, left + j * (side + between), bottom, side, side)
            x1, x2 = array[i, j].T
            counts, *_ = np.histogram2d(x2, x1, bins=[edges, edges])
            style: dict[str, Any] = {"origin": "lower", "interpolation": "nearest", "aspect": "auto"}
            span = (-extent, extent, -extent, extent)
            axes.imshow(counts, cmap=DENSITY, norm=PowerNorm(0.5, 0, max(counts.max(), 1)), extent=span, **style)
            show_plane(axes, extent, left=j == 0, below=i == len(rows) - 1, most=4)
            if i == 0:
                axes.set_title(column, fontsize=LABEL_SIZE, color=BLACK, pad=3.5)
            if j == 0:
                middle = (bottom + side / 2) / height
                figure.text(written / width, middle, row, fontsize=LABEL_SIZE, color=BLACK, ha="right", va="center")
    return figure


def animate_flow(path: str | Path, points: ArrayLike, target: ArrayLike, extent: float, title: str = "") -> None:
    """Write a GIF of samples that move through the layers of a flow to a target, coloured by their initial angle.

    They move in straight lines from layer to layer, more slowly at both ends. Samples that are outside of the square
    or not finite are not drawn. With a thousand samples the file has about 1 MB.

    Args:
        path: of the GIF, overwritten.
        points: [K + 1 ≥ 2, S, 2], before any layer and after each.
        target: [N ≥ 2, N], p(x) on the grid of `plane`, drawn as contours.
        extent: half the side of the square.
        title: of the picture, to which the number of the layer is added.

    Raises:
        ValueError: for any other shape, or an extent that is not positive.
    """
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 3 or array.shape[2] != 2 or len(array) < 2 or not array.size:
        raise ValueError(f"points must be [K + 1 ≥ 2, S, 2], got shape {array.shape}")
    check_extent(extent)
    array = np.where(np.isfinite(array), array, np.nan)
    layers = len(array) - 1
    figure = new_figure(4.2, 4.6)
    axes = add_axes(figure, 0.6, 0.7, 3.4, 3.4)
    told = draw_contours(axes, target, extent)
    below: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
    axes.annotate(told, (1, 0), (0, -34), ha="right", fontsize=TICK_SIZE, color=GREY, **below)
    angles = np.arctan2(array[0, :, 1], array[0, :, 0]) / (2 * math.pi) % 1
    marks = scatter(axes, array[0], ANGLE(angles), 900)
    show_plane(axes, extent)
    caption = write_title(figure, title)
    steps = min(MAX_FRAMES_PER_LAYER, max(1, MOVING_FRAMES // layers))

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
