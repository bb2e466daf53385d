"""Grids of images: samples, reconstructions, the latent manifold.

Images come as [N, 1 or 3, H, W] in [0, 1], arrays or CPU tensors; every image pixel is drawn as a whole
number of figure pixels, without interpolation. `checked_images`, `tile`, `paired_rows`, `canvas_figure` and
`show_canvas` are the building blocks, also for other modules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from genbench.figures.style import BLACK, DPI, GREY, LABEL_SIZE, TICK_SIZE, new_figure, text_width

__all__ = [
    "GAP",
    "canvas_figure",
    "checked_images",
    "image_grid",
    "labelled_rows",
    "latent_manifold",
    "manifold_quantiles",
    "paired_rows",
    "reconstructions",
    "show_canvas",
    "stages",
    "tile",
    "traversals",
]

GAP = 2  # image pixels between neighbours
CANVAS_WIDTH = 1000  # approximate figure pixels of a single canvas


def image_grid(images: ArrayLike, rows: int, columns: int, title: str = "") -> Figure:
    """The first rows · columns images, row by row.

    Args:
        images: [N, 1 or 3, H, W] in [0, 1]; missing images leave white cells.
        rows, columns: shape of the grid.
        title: of the picture.
    """
    canvas = tile(checked_images(images), rows, columns, GAP)
    figure, (axes,) = canvas_figure([canvas], title)
    show_canvas(axes, canvas)
    return figure


def reconstructions(originals: ArrayLike, reconstructed: ArrayLike, title: str = "") -> Figure:
    """Pairs of rows, originals above their reconstructions, at most ten per row.

    Args:
        originals, reconstructed: [N, 1 or 3, H, W] in [0, 1], in the same order.
        title: of the picture.
    """
    above, below = checked_images(originals), checked_images(reconstructed)
    if above.shape != below.shape:
        raise ValueError(f"originals have shape {above.shape}, reconstructions {below.shape}")
    columns = min(10, len(above))
    pairs = math.ceil(len(above) / columns)
    # Rows of originals and reconstructions alternate.
    canvas, centres = paired_rows(
        [part[k * columns : (k + 1) * columns] for k in range(pairs) for part in (above, below)], columns
    )
    figure, (axes,) = canvas_figure([canvas], title, left=0.96)
    show_canvas(axes, canvas)
    axes.set_yticks(centres, ["original", "reconstruction"] * pairs)
    axes.tick_params(axis="y", length=0, labelsize=TICK_SIZE, labelcolor=BLACK)
    return figure


def manifold_quantiles(n: int) -> NDArray[np.float64]:
    """The n standard-normal quantiles Φ⁻¹((k + ½)/n), k = 0 … n−1: medians of cells of equal probability."""
    return np.array([NormalDist().inv_cdf((k + 0.5) / n) for k in range(n)])


def latent_manifold(images: ArrayLike, n: int, title: str = "") -> Figure:
    """Images decoded from a two-dimensional grid of standard-normal quantiles.

    Args:
        images: [n², 1 or 3, H, W] in [0, 1]; images[i·n + j] is decoded from z = (q[j], q[i]) with
            q = manifold_quantiles(n), so z1 grows to the right and z2 upwards.
        n: cells along each side.
        title: of the picture.
    """
    array = checked_images(images)
    if len(array) != n * n:
        raise ValueError(f"a manifold of {n} × {n} needs {n * n} images, got {len(array)}")
    height, width = array.shape[2:]
    upwards = array.reshape(n, n, *array.shape[1:])[::-1].reshape(array.shape)
    canvas = tile(upwards, n, n, 0)
    figure, (axes,) = canvas_figure([canvas], title, left=0.72, bottom=0.56)
    show_canvas(axes, canvas)
    quantiles = manifold_quantiles(n)
    # About six ticks, symmetric about 0.
    ticks = 6 + n % 2
    lower = np.linspace(0, n - 1, ticks)[: (ticks + 1) // 2].round().astype(int)
    chosen = np.unique([*lower, *(n - 1 - lower)])
    labels = [f"{quantiles[k]:.2f}".replace("-", "−") for k in chosen]
    axes.set_xticks([(k + 0.5) * width - 0.5 for k in chosen], labels)
    axes.set_yticks([(n - k - 0.5) * height - 0.5 for k in chosen], labels)
    axes.tick_params(labelsize=TICK_SIZE, color=GREY, labelcolor=BLACK)
    axes.set_xlabel("z1 (standard-normal quantiles)", fontsize=LABEL_SIZE, color=BLACK)
    axes.set_ylabel("z2 (standard-normal quantiles)", fontsize=LABEL_SIZE, color=BLACK)
    return figure


def stages(images: Mapping[str, ArrayLike], title: str = "") -> Figure:
    """Samples at several moments of training, side by side, in nearly square grids.

    Args:
        images: moment, such as "before", "half way", "after" → [N, 1 or 3, H, W] in [0, 1].
        title: of the picture.
    """
    canvases = []
    for batch in images.values():
        array = checked_images(batch)
        columns = math.ceil(math.sqrt(len(array)))
        canvases.append(tile(array, math.ceil(len(array) / columns), columns, GAP))
    figure, panels = canvas_figure(canvases, title, top=0.3)
    for axes, name, canvas in zip(panels, images, canvases, strict=True):
        show_canvas(axes, canvas)
        axes.set_title(name, fontsize=LABEL_SIZE, color=BLACK)
    return figure


def traversals(images: ArrayLike, names: Sequence[str], values: Sequence[float], title: str = "") -> Figure:
    """Images decoded from one image's latents, with one latent changed per row.

    Args:
        images: [R · C, 1 or 3, H, W] in [0, 1], row by row: R latents, each at C values.
        names: of the R latents.
        values: the C values that the latent takes.
        title: of the picture.
    """
    array = checked_images(images)
    rows, columns = len(names), len(values)
    if len(array) != rows * columns:
        raise ValueError(f"{rows} latents at {columns} values each need {rows * columns} images, got {len(array)}")
    canvas = tile(array, rows, columns, GAP)
    figure, (axes,) = canvas_figure([canvas], title, left=1.2, bottom=0.46)
    show_canvas(axes, canvas)
    height, width = array.shape[2:]
    axes.set_yticks([GAP + k * (height + GAP) + height / 2 - 0.5 for k in range(rows)], list(names))
    labels = [f"{value:g}".replace("-", "−") for value in values]
    axes.set_xticks([GAP + k * (width + GAP) + width / 2 - 0.5 for k in range(columns)], labels)
    axes.tick_params(length=0, labelsize=TICK_SIZE, labelcolor=BLACK)
    axes.set_xlabel("value of the latent", fontsize=LABEL_SIZE, color=BLACK)
    return figure


def labelled_rows(images: ArrayLike, labels: Sequence[str], title: str = "") -> Figure:
    """Rows of images with a label each.

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
    left = math.ceil((text_width(labels, TICK_SIZE) + 0.16) * DPI) / DPI  # whole pixels
    figure, (axes,) = canvas_figure([canvas], title, left=left)
    show_canvas(axes, canvas)
    axes.set_yticks([GAP + k * (height + GAP) + height / 2 - 0.5 for k in range(rows)], labels)
    axes.tick_params(axis="y", length=0, labelsize=TICK_SIZE, labelcolor=BLACK)
    return figure


def checked_images(images: ArrayLike) -> NDArray[np.float64]:
    """[N, 1 or 3, H, W] as an array clipped to [0, 1]; raises ValueError for another shape."""
    array = np.asarray(images, dtype=np.float64)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not len(array):
        raise ValueError(f"images must be [N, 1 or 3, H, W], got shape {array.shape}")
    return array.clip(0, 1)


def tile(images: NDArray[np.float64], rows: int, columns: int, gap: int) -> NDArray[np.float64]:
    """[N, C, H, W] → one canvas [rows·(H + gap) + gap, columns·(W + gap) + gap, C] on white."""
    _, channels, height, width = images.shape
    canvas = np.ones((rows * (height + gap) + gap, columns * (width + gap) + gap, channels))
    for k, image in enumerate(images[: rows * columns]):
        top, left = gap + (k // columns) * (height + gap), gap + (k % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas


def paired_rows(rows: Sequence[NDArray[np.float64]], columns: int) -> tuple[NDArray[np.float64], list[float]]:
    """One canvas on which rows 0 and 1, 2 and 3, … are adjacent, with a larger gap between pairs.

    Args:
        rows: an even number of [at most `columns`, C, H, W] in [0, 1].
        columns: of the canvas.

    Returns:
        The canvas [·, columns·(W + GAP) + GAP, C] on white, and the vertical centre of every row on it.
    """
    parts: list[NDArray[np.float64]] = []
    centres: list[float] = []
    height = 0
    for k, row in enumerate(rows):
        strip = tile(row, 1, columns, GAP)
        # Adjacent strips share one gap.
        part = strip[GAP:] if k % 2 else np.concatenate([np.ones_like(strip[: 2 * GAP if k else 0]), strip])
        centres.append(height + part.shape[0] - GAP - row.shape[2] / 2 - 0.5)
        parts.append(part)
        height += part.shape[0]
    return np.concatenate(parts), centres


def canvas_figure(
    canvases: list[NDArray[np.float64]],
    title: str,
    left: float = 0.1,
    bottom: float = 0.1,
    top: float = 0.1,
    tallest: float = math.inf,
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel per canvas in which an image pixel is a whole number of figure pixels.

    Args:
        canvases: each [height, width, C] in image pixels.
        title: of the picture, placed above `top`.
        left, bottom, top: margins in inches, multiples of 0.02, which are whole numbers of pixels.
        tallest: maximal height of a canvas in figure pixels, unless an image pixel would become less than one.
    """
    between, right = 0.16, 0.1
    top += 0.32 if title else 0.0
    scale = max(1, round(CANVAS_WIDTH / max(canvas.shape[1] for canvas in canvases) / min(len(canvases), 2)))
    if tallest < math.inf:
        scale = max(1, min(scale, int(tallest // max(canvas.shape[0] for canvas in canvases))))
    sizes = [(canvas.shape[1] * scale / DPI, canvas.shape[0] * scale / DPI) for canvas in canvases]
    width = left + sum(w for w, _ in sizes) + between * (len(sizes) - 1) + right
    height = bottom + max(h for _, h in sizes) + top
    figure = new_figure(width, height, title)
    panels, x = [], left
    for w, h in sizes:
        panels.append(figure.add_axes((x / width, (height - top - h) / height, w / width, h / height)))
        x += w + between
    return figure, panels


def show_canvas(axes: Axes, canvas: NDArray[np.float64]) -> None:
    """Draw a canvas [height, width, C] in [0, 1] on its panel from `canvas_figure`."""
    # imshow wants [H, W] for grey; aspect "auto" because the panel already has the canvas's shape.
    image = canvas[..., 0] if canvas.shape[-1] == 1 else canvas
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
