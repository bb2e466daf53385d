"""Pictures made of pictures: samples, reconstructions, the latent manifold.

Images come as [N, 1 or 3, H, W] in [0, 1], arrays or CPU tensors; every image pixel is drawn as a whole
number of figure pixels, without interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from genbench.figures.style import BLACK, DPI, GREY, LABEL_SIZE, TICK_SIZE, TITLE_SIZE, new_figure

__all__ = ["image_grid", "latent_manifold", "manifold_quantiles", "reconstructions", "stages"]

GAP = 2  # image pixels between neighbours
WIDTH = 1000  # figure pixels that a single canvas aims at


def image_grid(images: ArrayLike, rows: int, columns: int, title: str = "") -> Figure:
    """The first rows · columns images, row by row.

    Args:
        images: [N, 1 or 3, H, W] in [0, 1]; missing images leave white cells.
        rows, columns: shape of the grid.
        title: of the picture.
    """
    canvas = _tile(_checked(images), rows, columns, GAP)
    figure, (axes,) = _canvas_figure([canvas], title)
    _show(axes, canvas)
    return figure


def reconstructions(originals: ArrayLike, reconstructed: ArrayLike, title: str = "") -> Figure:
    """Pairs of rows, originals above what the model makes of them, at most ten to a row.

    Args:
        originals, reconstructed: [N, 1 or 3, H, W] in [0, 1], in the same order.
        title: of the picture.
    """
    above, below = _checked(originals), _checked(reconstructed)
    if above.shape != below.shape:
        raise ValueError(f"originals have shape {above.shape}, reconstructions {below.shape}")
    columns = min(10, len(above))
    pairs = math.ceil(len(above) / columns)
    # Rows of originals and reconstructions alternate.
    strips = [
        _tile(part[k * columns : (k + 1) * columns], 1, columns, GAP) for k in range(pairs) for part in (above, below)
    ]
    # Shared borders: a strip ends with the gap that the next one starts with, and pairs stand further apart.
    parts: list[NDArray[np.float64]] = []
    centres: list[float] = []
    height = 0
    for k, strip in enumerate(strips):
        part = strip[GAP:] if k % 2 else np.concatenate([np.ones_like(strip[: 2 * GAP if k else 0]), strip])
        centres.append(height + part.shape[0] - GAP - above.shape[2] / 2 - 0.5)
        parts.append(part)
        height += part.shape[0]
    canvas = np.concatenate(parts)
    figure, (axes,) = _canvas_figure([canvas], title, left=0.96)
    _show(axes, canvas)
    axes.set_yticks(centres, ["original", "reconstruction"] * pairs)
    axes.tick_params(axis="y", length=0, labelsize=TICK_SIZE, labelcolor=BLACK)
    return figure


def manifold_quantiles(n: int) -> NDArray[np.float64]:
    """The n standard-normal quantiles Φ⁻¹((k + ½)/n), k = 0 … n−1: medians of cells of equal probability."""
    return np.array([NormalDist().inv_cdf((k + 0.5) / n) for k in range(n)])


def latent_manifold(images: ArrayLike, n: int, title: str = "") -> Figure:
    """What a decoder with a two-dimensional latent makes of a grid of standard-normal quantiles.

    Args:
        images: [n², 1 or 3, H, W] in [0, 1]; images[i·n + j] is decoded from z = (q[j], q[i]) with
            q = manifold_quantiles(n), so z1 grows to the right and z2 upwards.
        n: cells along each side.
        title: of the picture.
    """
    array = _checked(images)
    if len(array) != n * n:
        raise ValueError(f"a manifold of {n} × {n} needs {n * n} images, got {len(array)}")
    height, width = array.shape[2:]
    upwards = array.reshape(n, n, *array.shape[1:])[::-1].reshape(array.shape)
    canvas = _tile(upwards, n, n, 0)
    figure, (axes,) = _canvas_figure([canvas], title, left=0.72, bottom=0.56)
    _show(axes, canvas)
    quantiles = manifold_quantiles(n)
    # About six ticks, mirrored, so that every −z has its z.
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
    """Samples at several moments of training, side by side, each as square a grid as its number allows.

    Args:
        images: moment, such as "before", "half way", "after" → [N, 1 or 3, H, W] in [0, 1].
        title: of the picture.
    """
    canvases = []
    for batch in images.values():
        array = _checked(batch)
        columns = math.ceil(math.sqrt(len(array)))
        canvases.append(_tile(array, math.ceil(len(array) / columns), columns, GAP))
    figure, panels = _canvas_figure(canvases, title, top=0.3)
    for axes, name, canvas in zip(panels, images, canvases, strict=True):
        _show(axes, canvas)
        axes.set_title(name, fontsize=LABEL_SIZE, color=BLACK)
    return figure


def _checked(images: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(images, dtype=np.float64)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not len(array):
        raise ValueError(f"images must be [N, 1 or 3, H, W], got shape {array.shape}")
    return array.clip(0, 1)


def _tile(images: NDArray[np.float64], rows: int, columns: int, gap: int) -> NDArray[np.float64]:
    """[N, C, H, W] → one canvas [rows·(H + gap) + gap, columns·(W + gap) + gap, C] on white."""
    _, channels, height, width = images.shape
    canvas = np.ones((rows * (height + gap) + gap, columns * (width + gap) + gap, channels))
    for k, image in enumerate(images[: rows * columns]):
        top, left = gap + (k // columns) * (height + gap), gap + (k % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas


def _canvas_figure(
    canvases: list[NDArray[np.float64]], title: str, left: float = 0.1, bottom: float = 0.1, top: float = 0.1
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel per canvas in which an image pixel is a whole number of figure pixels.

    Margins are in inches, and multiples of 0.02 because that is a whole number of pixels.
    """
    between, right = 0.16, 0.1
    top += 0.32 if title else 0.0
    scale = max(1, round(WIDTH / max(canvas.shape[1] for canvas in canvases) / min(len(canvases), 2)))
    sizes = [(canvas.shape[1] * scale / DPI, canvas.shape[0] * scale / DPI) for canvas in canvases]
    width = left + sum(w for w, _ in sizes) + between * (len(sizes) - 1) + right
    height = bottom + max(h for _, h in sizes) + top
    figure = new_figure(width, height)
    if title:
        figure.suptitle(title, y=1 - 0.1 / height, va="top", fontsize=TITLE_SIZE, color=BLACK)
    panels, x = [], left
    for w, h in sizes:
        panels.append(figure.add_axes((x / width, (height - top - h) / height, w / width, h / height)))
        x += w + between
    return figure, panels


def _show(axes: Axes, canvas: NDArray[np.float64]) -> None:
    # imshow wants [H, W] for grey; aspect "auto" because the panel already has the canvas's shape.
    image = canvas[..., 0] if canvas.shape[-1] == 1 else canvas
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
