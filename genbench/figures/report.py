"""Curves of many runs: means over seeds with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from genbench.figures.curves import spread_apart
from genbench.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    TICK_SIZE,
    VERMILLION,
    label_axes,
    name_in_margin,
    new_figure,
)

__all__ = ["MAX_CURVES", "Band", "divergence_and_fid", "overlaid_curves"]

COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, "#CC79A7", "#56B4E9")  # Okabe and Ito
STYLES = ("-", (0, (6, 2)), "-", (0, (6, 2)), "-", (0, (6, 2)))
MAX_CURVES = len(COLOURS)
"""Most curves that one picture can distinguish."""

SKIPPED_SHARE = 0.1  # of the steps: earlier values, far from the final ones, do not affect the range
MIN_POINTS = 5  # with fewer later points, all points set the range
MAX_MARKERS = 30  # points are drawn with markers up to this number
LOG_RATIO = 1000.0
LOG_FLOOR = 1e-12  # of the maximum: smaller values are rounding errors, below the axis


class Band(NamedTuple):
    """A mean over seeds with its interval."""

    label: str
    steps: NDArray[np.float64]
    """[T]"""

    mean: NDArray[np.float64]
    """[T]"""

    low: NDArray[np.float64] | None = None
    """[T]; None if there are too few seeds."""

    high: NDArray[np.float64] | None = None


def overlaid_curves(
    bands: Sequence[Band],
    quantity: str,
    references: Sequence[tuple[str, float]] = (),
    title: str = "",
    over: str = "training step",
) -> Figure:
    """Means over seeds with their intervals on one chart; the right margin lists names and last values.

    Positive values that span three orders of magnitude or more have a logarithmic axis; otherwise the last nine
    tenths of the steps set the range.

    Args:
        bands: at most `MAX_CURVES`.
        quantity: name of the vertical axis, with its unit.
        references: (label, value), drawn as horizontal lines.
        title: of the picture.
        over: name of the horizontal axis.

    Raises:
        ValueError: for more bands than colours.
    """
    if len(bands) > MAX_CURVES:
        raise ValueError(f"{len(bands)} curves, but only {MAX_CURVES} can be told apart")
    figure = new_figure(7.4, 3.4)
    figure.subplots_adjust(left=0.11, right=0.6, bottom=0.15, top=0.9)
    axes = figure.add_subplot()
    label_axes(axes, over, quantity, title)
    _set_steps(axes)
    lines: list[Any] = list(zip(bands, COLOURS, STYLES, strict=False))
    for band, colour, style in lines:
        _draw(axes, band, colour, style)
    _set_range(axes, bands, [value for _, value in references if value])
    if axes.get_yscale() == "log":
        references = [(label, value) for label, value in references if value > 0]
    for _, value in references:
        axes.axhline(value, color=GREY, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1.5)
    margin = [(f"{label}: {_short(value)}", value, GREY) for label, value in references]
    for band, colour, _ in lines:
        finite = band.mean[np.isfinite(band.mean)]
        last = float(finite[-1]) if finite.size else np.nan
        margin.append((f"{band.label}: {_short(last)}", last, colour))
    _write_margin(axes, margin)
    return figure


def divergence_and_fid(
    divergence: Band, fid: Band, symbol: str, best: tuple[float, float], final: float, title: str = ""
) -> Figure:
    """The critic's estimate of the divergence (left axis) and FID (right axis) over generator steps, seeds averaged.

    An arrow spans the gap between the best and the final FID, which report 000 calls instability.

    Args:
        divergence, fid: over generator steps.
        symbol: of the divergence, such as "JSD".
        best: (step, FID) of the best mean.
        final: the last mean FID.
        title: of the picture.
    """
    figure = new_figure(7.6, 3.3)
    figure.subplots_adjust(left=0.11, right=0.74, bottom=0.15, top=0.9)
    axes = figure.add_subplot()
    label_axes(axes, "generator step", f"{symbol} (critic’s estimate)", title, grid=False)
    axes.yaxis.label.set_color(BLUE)
    _set_steps(axes)
    _draw(axes, divergence, BLUE, "-")
    right = axes.twinx()
    label_axes(right, "", "FID", grid=False)
    right.yaxis.label.set_color(VERMILLION)
    right.spines[["right"]].set_visible(True)
    right.spines[["right"]].set_color(GREY)
    _draw(right, fid, VERMILLION, (0, (6, 2)))
    _set_range(right, [fid], [])
    right.plot(*best, marker="*", markersize=11, color=VERMILLION, markeredgecolor="white", zorder=4)
    end = float(fid.steps[-1])
    if final > best[1]:
        arrow: dict[str, Any] = {"arrowstyle": "<->", "color": BLACK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
        right.annotate("", (end, final), (end, best[1]), arrowprops=arrow)
    notes = [f"★ best {best[1]:.2f}\n   at step {best[0]:,.0f}", f"final {final:.2f}", f"gap {final - best[1]:.2f}"]
    style: dict[str, Any] = {"transform": axes.transAxes, "fontsize": TICK_SIZE, "va": "top", "color": BLACK}
    axes.text(1.16, 1.0, "\n".join(notes), linespacing=1.5, **style)
    return figure


def _draw(axes: Axes, band: Band, colour: str, style: Any) -> None:
    marker = "o" if len(band.steps) <= MAX_MARKERS else ""
    points: dict[str, Any] = {"marker": marker, "markersize": 3.0, "zorder": 3}
    axes.plot(band.steps, band.mean, color=colour, linestyle=style, linewidth=1.5, **points)
    if band.low is not None and band.high is not None:
        axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.2, linewidth=0, zorder=2)


def _set_steps(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda step, _: f"{step / 1000:g}k" if step >= 10_000 else f"{step:g}")
    )


def _set_range(axes: Axes, bands: Sequence[Band], extra: Sequence[float]) -> None:
    values = [*extra]
    everything = [*extra]
    for band in bands:
        later = band.steps >= SKIPPED_SHARE * band.steps.max(initial=0.0)
        later |= later.sum() < MIN_POINTS
        for part in (band.mean, band.low, band.high):
            if part is not None:
                values += part[later & np.isfinite(part)].tolist()
                everything += part[np.isfinite(part)].tolist()
    if not values:
        return
    low, high = min(values), max(values)
    if min(everything) > 0 and max(everything) > LOG_RATIO * min(everything):
        axes.set_yscale("log")
        axes.set_ylim(max(min(everything), LOG_FLOOR * max(everything)) / 2, max(everything) * 2)
        return
    axes.ticklabel_format(axis="y", useOffset=False)
    room = 0.06 * max(high - low, 1e-3 * abs(high), 1e-9)
    axes.set_ylim(low - room, high + room)


def _write_margin(axes: Axes, entries: Sequence[tuple[str, float, str]]) -> None:
    """Names next to the right ends of their curves, or at the bottom if the last value is not finite."""
    bottom, _ = axes.get_ylim()
    shown = [(name, value if np.isfinite(value) else bottom, colour) for name, value, colour in entries]
    to_axes = axes.transAxes.inverted()
    places = [float(to_axes.transform(axes.transData.transform((0, value)))[1]) for _, value, _ in shown]
    order = np.argsort(places, kind="stable")
    heights = spread_apart(np.clip(np.array(places)[order], 0.0, 1.0), 0.075, 0.0)
    for k, height in zip(order, heights, strict=True):
        name, _, colour = shown[k]
        place = float(
            axes.transData.inverted().transform(axes.transAxes.transform((0, min(max(places[k], 0), 1))))[1]
        )
        name_in_margin(axes, name, place, colour, float(height))


def _short(value: float) -> str:
    return "not finite" if not np.isfinite(value) else f"{value:.4g}".replace("-", "−")
