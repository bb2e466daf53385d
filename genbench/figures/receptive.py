"""Which pixels an autoregressive network sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from genbench.figures.style import BLACK, BLUE, GREY, ORANGE, TICK_SIZE, label_axes, new_figure, whole_ticks

__all__ = ["receptive_field"]

UNSEEN = "#EDEDED"


def receptive_field(seen: ArrayLike, row: int, column: int, title: str = "") -> Figure:
    """The pixels on which a prediction can depend, and the pixel that is predicted.

    Args:
        seen: [H, W], boolean.
        row, column: of the predicted pixel, from 0.
        title: of the picture.

    Raises:
        ValueError: for any other shape, or a pixel outside of it.
    """
    field = np.asarray(seen, dtype=bool)
    if field.ndim != 2 or not (0 <= row < len(field) and 0 <= column < field.shape[1]):
        raise ValueError(f"seen must be [H, W] with the pixel ({row}, {column}) in it, got shape {field.shape}")
    height, width = field.shape
    kinds = field.astype(int)
    kinds[row, column] = 2
    figure = new_figure(4.6, 5.0, title)
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.19, top=0.91)
    axes = figure.add_subplot()
    colours = [UNSEEN, BLUE, ORANGE]
    axes.imshow(kinds, cmap=ListedColormap(colours), vmin=0, vmax=2, interpolation="nearest")
    label_axes(axes, "column", "row", grid=False)
    axes.spines[:].set(visible=True, color=GREY)
    # Thin lines between pixels, which are counted from 0.
    axes.set_xticks(np.arange(width + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(height + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    whole_ticks(axes.xaxis, [0, width])
    whole_ticks(axes.yaxis, [0, height])
    names = ("not seen", f"seen: {field.sum()} pixels", "predicted pixel")
    style: dict[str, Any] = {"fontsize": TICK_SIZE, "labelcolor": BLACK, "frameon": False, "handlelength": 1.0}
    patches = [Patch(facecolor=colour, edgecolor=GREY, linewidth=0.6) for colour in colours]
    figure.legend(patches, names, loc="lower center", ncols=len(names), **style)
    return figure
