"""Names in the right margin of a chart, each with a thin line to its value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from genbench.figures.style import BLACK, GREY, TICK_SIZE

__all__ = ["Name", "spread_apart", "widest", "write_margin"]

Name = tuple[str, float, str]
"""What is written, at which value of the vertical axis, in which colour."""


def widest(figure: Figure, names: Sequence[Name]) -> float:
    """Inches of the widest of the names, if there are any."""
    written = [figure.text(0, 0, name, fontsize=TICK_SIZE, parse_math=False) for name, _, _ in names]
    width = max((text.get_window_extent().width for text in written), default=0.0) / figure.dpi
    for text in written:
        text.remove()
    return float(width)


def write_margin(
    axes: Axes,
    names: Sequence[Name],
    gap: float,
    low: float = -np.inf,
    high: float = 1.0,
    line: float = 1.0,
    text: float = 1.055,
) -> None:
    """Write names right of the axes, spread apart to avoid overlaps.

    Args:
        names: their values are finite.
        gap: least distance of two names; names stand between `low` and `high`.
        line, text: horizontal positions of the lines' ends and of the names.

    All distances are fractions of the axes.
    """
    ordered = sorted(names, key=lambda entry: entry[1])
    values = axes.transData.transform([(0, value) for _, value, _ in ordered])
    places = np.clip(axes.transAxes.inverted().transform(values)[:, 1], 0.0, 1.0) if ordered else np.empty(0)
    heights = spread_apart(places, gap, low, high)
    heights += max(0.0, -float(heights.min(initial=0.0)))  # too many for the range stand above it, not below
    for (name, value, colour), height in zip(ordered, heights, strict=True):
        bottom, top = sorted(axes.get_ylim())
        _write(axes, name, min(max(value, bottom), top), colour, float(height), line, text)


def spread_apart(
    heights: NDArray[np.float64], gap: float, low: float = -np.inf, high: float = 1.0
) -> NDArray[np.float64]:
    """Ascending heights moved as little as possible (least squares) to be at least `gap` apart and in a range.

    With the gaps subtracted this is isotonic regression, solved by pooling adjacent violators; clipping gives the
    bounded solution. If there are too many heights for the range, some are below `low`.
    """
    steps = gap * np.arange(len(heights))
    blocks: list[tuple[float, int]] = []
    for height in heights - steps:
        mean, size = float(height), 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    pooled = np.array([mean for mean, size in blocks for _ in range(size)])
    apart: NDArray[np.float64] = np.minimum(np.maximum(pooled, low), high - steps[-1:]) + steps
    return apart


def _write(axes: Axes, name: str, value: float, colour: str, height: float, line: float, text: float) -> None:
    axes.annotate(
        name,
        xy=(line, value),
        xycoords=axes.get_yaxis_transform(),
        xytext=(text, height),
        textcoords="axes fraction",
        va="center",
        fontsize=TICK_SIZE,
        color=BLACK if colour == GREY else colour,
        arrowprops={
            "arrowstyle": "-",
            "color": colour,
            "linewidth": 0.7,
            "relpos": (0, 0.5),
            "shrinkA": 1,
            "shrinkB": 0,
        },
        annotation_clip=False,
    )
