"""Walks through a latent space: along lines between two latents, and along single dimensions.

Images come as arrays or CPU tensors [.., 1 or 3, H, W] in [0, 1]; every image pixel is drawn as a whole number
of figure pixels, as in `grids`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from genbench.figures.grids import GAP, canvas_figure, checked_images, paired_rows, show_canvas, tile
from genbench.figures.style import BLACK, BLUE, GREY, LABEL_SIZE, TICK_SIZE

__all__ = ["interpolations", "latent_walk", "perturbations"]

MAX_HEIGHT = 1300  # figure pixels of a canvas with many rows


def latent_walk(images: ArrayLike, title: str = "", labels: tuple[str, str] | None = None) -> Figure:
    """A straight line through latent space: two framed ends and the steps between them.

    Args:
        images: [N ≥ 2, 1 or 3, H, W] in [0, 1]; image k is generated from (1 − α)·z0 + α·z1, α = k/(N − 1).
        title: of the picture.
        labels: contents of the two ends, such as ("a 3", "a 7").

    Raises:
        ValueError: for any other shape.
    """
    array = checked_images(images)
    count, _, height, width = array.shape
    if count < 2:
        raise ValueError(f"a walk has two ends, got shape {array.shape}")
    canvas = tile(array, 1, count, GAP)
    if canvas.shape[-1] == 1:
        canvas = canvas.repeat(3, axis=-1)
    for k in (0, count - 1):
        left = GAP + k * (width + GAP)
        # One image pixel of frame, in the gap around the image.
        framed = canvas[GAP - 1 : GAP + height + 1, left - 1 : left + width + 1]
        image = framed[1:-1, 1:-1].copy()
        framed[:] = to_rgb(BLUE)
        framed[1:-1, 1:-1] = image
    figure, (axes,) = canvas_figure([canvas], title, bottom=0.26, top=0.28 if labels else 0.1)
    show_canvas(axes, canvas)
    alphas = [str(Fraction(k, count - 1)) for k in range(count)]
    _label_columns(axes, width, [f"α = {alphas[0]}", *alphas[1:]], above=False)
    if labels:
        # Aligned with the outer edges, so that long labels stay inside the picture.
        last = count * (width + GAP) - 0.5
        for text, x, side in ((labels[0], GAP - 0.5, "left"), (labels[1], last, "right")):
            style: dict[str, Any] = {"fontsize": LABEL_SIZE, "color": BLUE, "ha": side, "va": "bottom"}
            axes.annotate(text, (x, -0.5), (0, 1), textcoords="offset points", **style)
    return figure


def perturbations(
    images: ArrayLike,
    changes: Sequence[float],
    dimensions: Sequence[int],
    offsets: Sequence[float],
    title: str = "",
) -> Figure:
    """Effects of single latent dimensions, one per row, the largest first.

    Args:
        images: [rows, columns, 1 or 3, H, W] in [0, 1]; images[i, j] is generated from z with offsets[j] added
            to its dimension dimensions[i].
        changes: mean absolute change of a pixel from the first to the last offset; rows are drawn in descending
            order.
        dimensions: number of each row's dimension, from 1.
        offsets: of the columns, from −ε to ε, in standard deviations of the prior.
        title: of the picture.

    Raises:
        ValueError: for images of any other shape, or if the numbers of changes, dimensions and offsets do not match.
    """
    array = _checked_rows(images, "images")
    rows, columns, _, height, width = array.shape
    if (len(changes), len(dimensions), len(offsets)) != (rows, rows, columns):
        raise ValueError(
            f"images have shape {array.shape}, but there are {len(changes)} changes, {len(dimensions)} dimensions "
            f"and {len(offsets)} offsets"
        )
    order = np.argsort(-np.asarray(changes, dtype=np.float64), kind="stable")
    canvas = tile(array[order].reshape(-1, *array.shape[2:]), rows, columns, GAP)
    figure, (axes,) = canvas_figure([canvas], title, left=1.06, bottom=0.46, top=0.28, tallest=MAX_HEIGHT)
    show_canvas(axes, canvas)
    signed = [f"{offset:+.3g}".replace("-", "−") if offset else "0" for offset in offsets]
    _label_columns(axes, width, signed, above=True, name="offset (σ)")
    note: dict[str, Any] = {"fontsize": TICK_SIZE, "color": GREY, "x": 1.0, "ha": "right"}
    axes.set_xlabel("Δ: mean change of a pixel\nfrom end to end", **note)
    centres = [GAP + k * (height + GAP) + height / 2 - 0.5 for k in range(rows)]
    # Three digits of the largest change, within limits.
    largest = max(changes)
    decimals = int(np.clip(2 - np.floor(np.log10(largest)), 2, 4)) if largest > 0 else 2
    _label_rows(axes, centres, [f"z{dimensions[k]}  Δ {changes[k]:.{decimals}f}" for k in order])
    return figure


def interpolations(latent: ArrayLike, pixel: ArrayLike, alphas: Sequence[float], title: str = "") -> Figure:
    """Interpolations between pairs of images: in latent space, and below in pixel space.

    Args:
        latent: [pairs, columns, 1 or 3, H, W] in [0, 1], generated from (1 − α)·z0 + α·z1.
        pixel: the same shape, (1 − α)·x0 + α·x1 of the two ends' images.
        alphas: α of every column, such as 0, 0.1, …, 1.
        title: of the picture.

    Raises:
        ValueError: for any other shape, or if the two shapes or the number of alphas do not match.
    """
    above, below = _checked_rows(latent, "latent"), _checked_rows(pixel, "pixel")
    if above.shape != below.shape:
        raise ValueError(f"latent interpolations have shape {above.shape}, those of pixels {below.shape}")
    pairs, columns, _, _, width = above.shape
    if len(alphas) != columns:
        raise ValueError(f"interpolations have {columns} columns, but there are {len(alphas)} alphas")
    canvas, centres = paired_rows([part[k] for k in range(pairs) for part in (above, below)], columns)
    figure, (axes,) = canvas_figure([canvas], title, left=0.54, top=0.28, tallest=MAX_HEIGHT)
    show_canvas(axes, canvas)
    _label_columns(axes, width, [f"{alpha:.3g}" for alpha in alphas], above=True, name="α")
    _label_rows(axes, centres, ["latent", "pixels"] * pairs)
    return figure


def _checked_rows(images: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(images, dtype=np.float64)
    if array.ndim != 5 or array.shape[2] not in (1, 3) or not array.size:
        raise ValueError(f"{name} must be [rows, columns, 1 or 3, H, W], got shape {array.shape}")
    return checked_images(array.reshape(-1, *array.shape[2:])).reshape(array.shape)


def _label_columns(axes: Axes, width: int, labels: Sequence[str], above: bool, name: str = "") -> None:
    """Label the columns of a canvas; `name` stands left of the labels."""
    axes.set_xticks([GAP + k * (width + GAP) + width / 2 - 0.5 for k in range(len(labels))], labels)
    sides = {"top": above, "labeltop": above, "bottom": not above, "labelbottom": not above}
    axes.tick_params(axis="x", length=0, pad=1.5, labelsize=TICK_SIZE, labelcolor=BLACK, **sides)
    if name:
        style: dict[str, Any] = {"fontsize": TICK_SIZE, "color": GREY, "ha": "right", "va": "bottom"}
        axes.annotate(name, (0, 1), (-4, 1.5), "axes fraction", "offset points", **style)


def _label_rows(axes: Axes, centres: Sequence[float], labels: Sequence[str]) -> None:
    axes.set_yticks(centres, labels)
    axes.tick_params(axis="y", length=0, labelsize=TICK_SIZE, labelcolor=BLACK)
