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
    truth_theta: Sequence[float] | NDArray[np.float64],
    truth: Sequence[float] | NDArray[np.float64],
    symbol: str,
    title: str = "",
) -> Figure:
    """A critic's estimates of the divergence between P(0) and P(θ), and the true values.

    Several seeds are drawn as their mean, with bars from the lowest to the highest; a note gives the mean absolute
    error of all estimates. Estimates that are not finite are omitted, and another note gives their number.

    Args:
        theta: [T], where the divergence is estimated.
        estimates: [T], or [seeds, T].
        truth_theta: [K], ascending. A repeated θ is a jump: first the value at θ, then the limit from the right.
            θ = 0, 0, 2 with values 0, 2, 2 is 0 at 0 and 2 everywhere else.
        truth: [K], values at truth_theta, joined by straight lines.
        symbol: of the divergence, such as "W1".
        title: of the picture.

    Raises:
        ValueError: if shapes do not match, truth_theta descends or repeats a θ more than once, or theta is outside
            of its range.
    """
    places = np.asarray(theta, dtype=np.float64)
    runs = np.atleast_2d(np.asarray(estimates, dtype=np.float64))
    known_at, known = np.asarray(truth_theta, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if places.ndim != 1 or runs.ndim != 2 or runs.shape[1] != len(places) or not runs.size:
        raise ValueError(f"estimates must be [T] or [seeds, T] at T = {places.size} θ, got {np.shape(estimates)}")
    true = _truth_at(places, known_at, known)

    figure = new_figure(7.2, 4.2, title)
    figure.subplots_adjust(left=0.105, right=0.965, bottom=0.125, top=0.85)
    axes = figure.add_subplot()
    label_axes(axes, "θ", symbol)

    # A branch begins at the first θ and at the second of two equal ones.
    starts = [0, *np.flatnonzero(np.diff(known_at) == 0) + 1]
    branches = list(zip(starts, [*starts[1:], len(known_at)], strict=True))
    longest = max(branches, key=lambda branch: branch[1] - branch[0])
    for start, end in branches:
        label = "true value" if (start, end) == longest else "_branch"
        axes.plot(known_at[start:end], known[start:end], color=BLACK, linewidth=1.6, label=label, zorder=2)
    ring: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 8, "markeredgewidth": 1.6}
    for at in starts[1:]:
        for k, face, name in ((at - 1, BLACK, "_value at the jump"), (at, "white", "_limit at the jump")):
            style: dict[str, Any] = {"markeredgecolor": BLACK, "markerfacecolor": face, "label": name, "zorder": 2.5}
            axes.plot(known_at[k : k + 1], known[k : k + 1], **ring, **style)

    _draw_estimates(axes, places, runs)
    legend_above(axes)

    # Outside of the axes the notes cannot cover the curve.
    corner: dict[str, Any] = {"transform": axes.transAxes, "fontsize": TICK_SIZE, "ha": "right", "va": "bottom"}
    errors = np.abs(runs - true)[np.isfinite(runs)]
    if errors.size:
        axes.text(1.0, 1.022, f"mean absolute error {errors.mean():.3g}", color=BLACK, **corner)
    if errors.size < runs.size:
        note = f"{runs.size - errors.size} of {runs.size} estimates not finite"
        axes.text(1.0, -0.145, note, color=BLUE, **corner)
    return figure


def _truth_at(
    places: NDArray[np.float64], known_at: NDArray[np.float64], known: NDArray[np.float64]
) -> NDArray[np.float64]:
    """True values at `places`; at a jump the value, not the limit."""
    if known_at.ndim != 1 or known_at.shape != known.shape or len(known_at) < 2:
        raise ValueError(f"true values must be [K ≥ 2] at K θ, got shapes {known.shape} and {known_at.shape}")
    gaps = np.diff(known_at)
    if (gaps < 0).any() or ((gaps[:-1] == 0) & (gaps[1:] == 0)).any():
        raise ValueError("the θ of true values must ascend, and stand there at most twice")
    if len(places) and (places.min() < known_at[0] or places.max() > known_at[-1]):
        raise ValueError(
            f"estimates at θ from {places.min():g} to {places.max():g}, but true values only from {known_at[0]:g} "
            f"to {known_at[-1]:g}"
        )
    values = np.interp(places, known_at, known)
    first = np.searchsorted(known_at, places)  # the first of equal θ
    return np.where(known_at[first] == places, known[first], values)


def _draw_estimates(axes: Axes, places: NDArray[np.float64], runs: NDArray[np.float64]) -> None:
    means, below, above = [], [], []
    for values in runs.T:
        finite = values[np.isfinite(values)]
        mean = finite.mean() if finite.size else np.nan
        means.append(mean)
        below.append(mean - finite.min(initial=mean))
        above.append(finite.max(initial=mean) - mean)
    style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 5.5, "color": BLUE, "zorder": 3}
    style |= {"markeredgecolor": "white", "markeredgewidth": 0.7}
    if len(runs) == 1:
        axes.plot(places, means, label="estimate", **style)
    else:
        label = f"estimate: mean and range of {len(runs)} seeds"
        axes.errorbar(places, means, yerr=[below, above], elinewidth=1.6, label=label, **style)
