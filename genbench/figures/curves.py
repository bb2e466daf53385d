"""Quantities over the course of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from genbench.figures.style import BLUE, GREY, TICK_SIZE, VERMILLION, label_axes, name_in_margin, new_figure

__all__ = ["elbo_curves", "spread_apart"]

# The range shows at least this share of all points; the first epochs may lie tens of nats below the rest.
SHOWN = 0.9


def elbo_curves(
    train: Sequence[tuple[float, float]],
    valid: Sequence[tuple[float, float]],
    references: Sequence[tuple[str, float]] = (),
    title: str = "",
) -> Figure:
    """Training and validation evidence lower bound over epochs, beside published values.

    The final validation value and every reference are named, with their value, in the right margin. Early
    points far below the rest are left out of the range; the picture says how many and how low they go.

    Args:
        train, valid: (epoch, ELBO in nats per image), negative, higher is better; either may be empty.
        references: (label, value in nats), drawn as horizontal lines.
        title: of the picture.
    """
    figure = new_figure(7.2, 4.0)
    figure.subplots_adjust(left=0.105, right=0.7, bottom=0.13, top=0.91)
    axes = figure.add_subplot()
    label_axes(axes, "epoch", "ELBO (nats per image)", title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))

    curves = [("training", train, BLUE, "o"), ("validation", valid, VERMILLION, "s")]
    for name, pairs, colour, marker in curves:
        if pairs:
            epochs, values = np.asarray(pairs, dtype=np.float64).T
            style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3.2, "linewidth": 1.5}
            axes.plot(epochs, values, label=name, **style)
    shown = _set_range(axes, [value for _, pairs, *_ in curves for _, value in pairs], references)
    _mark_hidden(axes, curves, shown)

    margin = [(f"{label}: {_minus(value)}", value, GREY) for label, value in references]
    if valid:
        margin.append((f"final validation: {_minus(valid[-1][1])}", valid[-1][1], VERMILLION))
    for _, value in references:
        axes.axhline(value, color=GREY, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1.5)
    _write_margin(axes, margin)
    if train or valid:
        axes.legend(loc="lower right", fontsize=TICK_SIZE, framealpha=0.9, edgecolor="#DDDDDD")
    return figure


def _set_range(axes: Axes, values: Sequence[float], references: Sequence[tuple[str, float]]) -> float:
    """Sets the vertical range and returns its lower end."""
    finite = np.array([value for value in values if np.isfinite(value)])
    lines = [value for _, value in references]
    if not finite.size and not lines:
        return float(axes.get_ylim()[0])
    low = min([*([float(np.quantile(finite, 1 - SHOWN, method="lower"))] if finite.size else []), *lines])
    high = max([*finite, *lines])
    # A few points below the quantile do no harm where they lie close to it.
    if finite.size and finite.min() > low - 0.6 * (high - low):
        low = min(low, float(finite.min()))
    margin = 0.06 * max(high - low, 1e-3)
    axes.set_ylim(low - margin, high + margin)
    return low - margin


def _mark_hidden(
    axes: Axes, curves: Sequence[tuple[str, Sequence[tuple[float, float]], str, str]], shown: float
) -> None:
    """Triangles on the lower edge where points are below the range, and a note that tells the lowest."""
    hidden = []
    # The first curve's triangles are larger, so that they show behind the second's.
    for (_, pairs, colour, _), size in zip(curves, (8.0, 4.5), strict=True):
        for epoch, value in pairs:
            if value < shown:
                hidden.append(value)
                place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "linestyle": "none"}
                axes.plot([epoch], [0.025], marker="v", color=colour, markersize=size, label="_hidden", **place)
    if hidden:
        text = f"▼ {len(hidden)} point{'s' * (len(hidden) > 1)} below the\n    range, lowest {_minus(min(hidden))}"
        axes.text(1.02, 0.0, text, transform=axes.transAxes, fontsize=TICK_SIZE, color=GREY, va="bottom")


def _write_margin(axes: Axes, entries: Sequence[tuple[str, float, str]]) -> None:
    """Names horizontal positions in the right margin, pushed apart where they would overlap."""
    bottom, top = axes.get_ylim()
    ordered = sorted(entries, key=lambda entry: entry[1])
    heights = np.array([(value - bottom) / (top - bottom) for _, value, _ in ordered])
    for (name, value, colour), height in zip(ordered, spread_apart(heights, 0.058), strict=True):
        name_in_margin(axes, name, value, colour, float(height))


def _minus(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def spread_apart(heights: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Ascending heights moved as little as possible (least squares) to be at least `gap` apart.

    With the gaps subtracted this is isotonic regression, solved by pooling adjacent violators.
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
    spread = pooled + steps
    # Kept inside the axes where there is room.
    return spread - max(0.0, float(spread[-1]) - 1.0) if len(spread) else spread
