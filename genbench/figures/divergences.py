"""Estimates of known divergences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from genbench.figures.style import BLACK, BLUE, TICK_SIZE, label_axes, legend_above, new_figure

__all__ = ["divergence_curve"]


def divergence_curve(
    theta: Sequence[float] | NDArray[np.float64],
    estimates: ArrayLike,
    truths: Sequence[float] | NDArray[np.float64],
    limit: float,
    symbol: str,
    title: str = "",
) -> Figure:
    """A critic's estimates of the divergence between P(0) and P(θ), and the true values.

    Several seeds are drawn as their mean, with bars from the lowest to the highest; a note gives the mean absolute
    error of all estimates. Estimates that are not finite are omitted, and another note gives their number.

    Args:
        theta: [T], where the divergence is estimated.
        estimates: [T], or [seeds, T]; masked where a seed has none.
        truths: [T]; 0 at θ = 0, and elsewhere on the line from (0, `limit`) to the last of them.
        limit: of the true divergence as θ falls to 0; not 0 where it jumps.
        symbol: of the divergence, such as "W1".
        title: of the picture.

    Raises:
        ValueError: if shapes do not match.
    """
    places, true = np.asarray(theta, dtype=np.float64), np.asarray(truths, dtype=np.float64)
    runs = np.ma.atleast_2d(np.ma.asarray(estimates, dtype=np.float64))
    if places.shape != true.shape or runs.ndim != 2 or runs.shape[1:] != places.shape or not runs.size:
        raise ValueError(f"estimates must be [T] or [seeds, T] at T = {places.size} θ, got {np.shape(estimates)}")

    figure = new_figure(7.2, 4.2, title)
    figure.subplots_adjust(left=0.105, right=0.965, bottom=0.125, top=0.85)
    axes = figure.add_subplot()
    label_axes(axes, "θ", symbol)

    axes.plot([0, places[-1]], [limit, true[-1]], color=BLACK, linewidth=1.6, label="true value", zorder=2)
    if limit:
        style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 8, "markeredgewidth": 1.6}
        style |= {"markeredgecolor": BLACK, "zorder": 2.5}
        axes.plot([0], [0], markerfacecolor=BLACK, label="_value at the jump", **style)
        axes.plot([0], [limit], markerfacecolor="white", label="_limit at the jump", **style)

    _draw_estimates(axes, places, runs)
    legend_above(axes)

    # Outside of the axes the notes cannot cover the curve.
    corner: dict[str, Any] = {"transform": axes.transAxes, "fontsize": TICK_SIZE, "ha": "right", "va": "bottom"}
    errors, count = np.ma.abs(runs - true).compressed(), runs.count()
    errors = errors[np.isfinite(errors)]
    if errors.size:
        axes.text(1.0, 1.022, f"mean absolute error {errors.mean():.3g}", color=BLACK, **corner)
    if errors.size < count:
        note = f"{count - errors.size} of {count} estimates not finite"
        axes.text(1.0, -0.145, note, color=BLUE, **corner)
    return figure


def _draw_estimates(axes: Axes, places: NDArray[np.float64], runs: np.ma.MaskedArray[Any, Any]) -> None:
    means, below, above = [], [], []
    for values in runs.T:
        finite = values.compressed()[np.isfinite(values.compressed())]
        mean = finite.mean() if finite.size else np.nan
        means.append(mean)
        below.append(mean - finite.min(initial=mean))
        above.append(finite.max(initial=mean) - mean)
    style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 5.5, "color": BLUE, "zorder": 3}
    style |= {"markeredgecolor": "white", "markeredgewidth": 0.7}
    if len(runs) == 1:
        axes.plot(places, means, label="estimate", **style)
    else:
        fewest = runs.count(axis=0).min()
        seeds = f"{len(runs)} seeds" if fewest == len(runs) else f"{fewest} to {len(runs)} seeds"
        label = f"estimate: mean and range of {seeds}"
        axes.errorbar(places, means, yerr=[below, above], elinewidth=1.6, label=label, **style)
