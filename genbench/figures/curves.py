"""Learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genbench.figures.margin import write_margin
from genbench.figures.style import BLUE, GREY, TICK_SIZE, VERMILLION, label_axes, new_figure

__all__ = ["Better", "learning_curves"]

Better = Literal["higher", "lower"]
"""The direction in which a quantity improves."""

# The range shows at least this share of the points: the first epochs may be tens of nats worse than the rest.
SHOWN_SHARE = 0.9
NOTE_HEIGHT = 0.14  # of the axes, for the note on hidden points and a gap to the names


def learning_curves(
    train: Sequence[tuple[float, float]],
    valid: Sequence[tuple[float, float]],
    references: Sequence[tuple[str, float]] = (),
    title: str = "",
    *,
    quantity: str = "ELBO (nats per image)",
    better: Better = "higher",
    over: str = "epoch",
) -> Figure:
    """A quantity on training and validation data over epochs or steps, with published values.

    The right margin lists the final validation value and every reference. Early points far worse than the rest are
    outside of the range; a note gives their number and the worst value.

    Args:
        train, valid: (epoch or step, value); either may be empty.
        references: (label, value), drawn as horizontal lines.
        title: of the picture.
        quantity: name of the vertical axis, with its unit.
        better: "higher" for a bound or a log-likelihood, "lower" for its negative or for bits per dimension.
        over: name of the horizontal axis.
    """
    figure = new_figure(7.2, 4.0)
    figure.subplots_adjust(left=0.105, right=0.7, bottom=0.13, top=0.91)
    axes = figure.add_subplot()
    label_axes(axes, over, quantity, title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))

    curves = [("training", train, BLUE, "o"), ("validation", valid, VERMILLION, "s")]
    for name, pairs, colour, marker in curves:
        if pairs:
            epochs, values = np.asarray(pairs, dtype=np.float64).T
            style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3.2, "linewidth": 1.5}
            axes.plot(epochs, values, label=name, **style)
    _set_range(axes, [value for _, pairs, *_ in curves for _, value in pairs], references, better)
    noted = _mark_hidden(axes, curves, better)

    margin = [(f"{label}: {_written(value)}", value, GREY) for label, value in references]
    if valid:
        final = valid[-1][1]
        # A value that is not finite cannot be drawn, but must be reported.
        height = final if np.isfinite(final) else axes.get_ylim()[0 if better == "higher" else 1]
        margin.append((f"final validation: {_written(final)}", height, VERMILLION))
    for _, value in references:
        axes.axhline(value, color=GREY, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1.5)
    low, high = (NOTE_HEIGHT, 1.0) if better == "higher" else (0.0, 1 - NOTE_HEIGHT)
    write_margin(axes, margin, 0.058, low if noted else -np.inf, high if noted else 1.0)
    if train or valid:
        # "best" tries the upper right first, and avoids it if a curve ends there.
        corner: Literal["lower right", "best"] = "lower right" if better == "higher" else "best"
        axes.legend(loc=corner, fontsize=TICK_SIZE, framealpha=0.9, edgecolor="#DDDDDD")
    return figure


def _set_range(axes: Axes, values: Sequence[float], references: Sequence[tuple[str, float]], better: Better) -> None:
    """Show all finite values, except for the worst if they are far from the rest."""
    sign = 1.0 if better == "higher" else -1.0
    finite = sign * np.array([value for value in values if np.isfinite(value)])
    lines = [sign * value for _, value in references]
    if not finite.size and not lines:
        return
    worst = min([*([float(np.quantile(finite, 1 - SHOWN_SHARE, method="lower"))] if finite.size else []), *lines])
    best = max([*finite, *lines])
    # Include the points beyond the quantile if they lie close to it.
    if finite.size and finite.min() > worst - 0.6 * (best - worst):
        worst = min(worst, float(finite.min()))
    margin = 0.06 * max(best - worst, 1e-3)
    axes.set_ylim(*sorted((sign * (worst - margin), sign * (best + margin))))


def _mark_hidden(
    axes: Axes, curves: Sequence[tuple[str, Sequence[tuple[float, float]], str, str]], better: Better
) -> bool:
    """Mark points outside of the range by triangles on the edge and a note; returns whether there are any."""
    low, high = axes.get_ylim()
    hidden = []
    edge, marker = (0.025, "v") if better == "higher" else (0.975, "^")
    # The first curve's triangles are larger, to be visible behind the second's.
    for (_, pairs, colour, _), size in zip(curves, (8.0, 4.5), strict=True):
        for epoch, value in pairs:
            if (value < low) if better == "higher" else (value > high):
                hidden.append(value)
                place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "linestyle": "none"}
                axes.plot([epoch], [edge], marker=marker, color=colour, markersize=size, label="_hidden", **place)
    if hidden:
        points = f"{len(hidden)} point{'s' * (len(hidden) > 1)}"
        note: dict[str, Any] = {"transform": axes.transAxes, "fontsize": TICK_SIZE, "color": GREY}
        if better == "higher":
            text = f"▼ {points} below the\n    range, lowest {_written(min(hidden))}"
            axes.text(1.02, 0.0, text, va="bottom", **note)
        else:
            text = f"▲ {points} above the\n    range, highest {_written(max(hidden))}"
            axes.text(1.02, 1.0, text, va="top", **note)
    return bool(hidden)


def _written(value: float) -> str:
    if not np.isfinite(value):
        return "not finite"
    return (f"{value:.2f}" if abs(value) < 1e6 else f"{value:.3g}").replace("-", "−")
