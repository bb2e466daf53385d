"""How generated images are divided among the classes of their data set."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from genbench.figures.style import BLUE, GREY, label_axes, legend_above, new_figure

__all__ = ["class_bars"]

NUMBERED = 20  # bars that an axis has room to number


def class_bars(shares: ArrayLike, expected: ArrayLike, title: str = "") -> Figure:
    """The share of each class among generated images and among the data, side by side.

    Args:
        shares, expected: [classes + 1], sums 1; the last are images of no class.
        title: of the picture.
    """
    found, wanted = np.asarray(shares), np.asarray(expected)
    figure = new_figure(7.0, 3.2, title)
    figure.subplots_adjust(left=0.1, right=0.985, bottom=0.16, top=0.84)
    axes = figure.add_subplot()
    label_axes(axes, "class", "share of images")
    places = np.arange(len(found))
    axes.bar(places - 0.2, wanted, 0.38, color=GREY, label="data")
    axes.bar(places + 0.2, found, 0.38, color=BLUE, label="generated")
    every = math.ceil(len(found) / NUMBERED)
    numbered = places[: len(found) - every : every]
    axes.set_xticks([*numbered, places[-1]], [*map(str, numbered), "none"])
    legend_above(axes, right=True)
    return figure
