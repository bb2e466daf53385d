"""An image GAN's approximated divergence and its FID over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from genbench.figures.margin import widest, write_margin
from genbench.figures.style import (
    BLACK,
    BLUE,
    GREY,
    LABEL_SIZE,
    TICK_SIZE,
    TITLE_SIZE,
    VERMILLION,
    label_axes,
    new_figure,
)

__all__ = ["metric_and_fid"]

# FIDs whose range has at least this ratio of its ends are drawn on a log scale: FID falls from hundreds within the
# first evaluations, and later changes by ten per cent.
LOG_RATIO = 4.0
TICK_STEPS = [1, 2, 2.5, 5, 10]
MAX_MARKERS = 60  # points are drawn with markers up to this number


def metric_and_fid(
    metric: Sequence[tuple[float, float]],
    fid: Sequence[tuple[float, float]],
    symbol: str,
    title: str = "",
    references: Sequence[tuple[str, float]] = (),
) -> Figure:
    """The approximated divergence and the Fréchet inception distance over generator steps.

    The divergence has the left axis and FID the right one, each in its curve's colour. The right margin lists the
    best FID with its step, the final FID and every reference. Without FIDs there are no right axis, margin or
    references. Values that are not finite leave gaps. The left axis contains zero; the right one is logarithmic if
    its ends are far apart.

    Args:
        metric: (generator step, the critic's estimate of the divergence).
        fid: (generator step, FID), lower is better; may be empty.
        symbol: of the divergence as the axis names it, such as "JSD" or "W1".
        title: of the picture.
        references: (label, FID), drawn as horizontal lines on the FID axis.
    """
    finite_fid = [(step, value) for step, value in fid if np.isfinite(value)]
    figure = new_figure(8.4 if finite_fid else 6.4, 4.0)
    axes = figure.add_subplot()
    label_axes(axes, "generator step", "", grid=False)
    axes.set_title(title, fontsize=TITLE_SIZE, color=BLACK, pad=23)
    # The two vertical axes have unrelated ticks, so neither gets horizontal lines.
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    _set_steps(axes, [step for step, _ in (*metric, *fid)])
    _colour_axis(axes, "left", BLUE, f"{symbol} (critic’s estimate)")
    _plot(axes, metric, "divergence", BLUE, "o", 2)
    # The final distance from zero matters most.
    _set_linear_range(axes, [0.0, *(value for _, value in metric)] if metric else [])
    if not finite_fid:
        figure.subplots_adjust(left=0.11, right=0.965, bottom=0.13, top=0.85)
        return figure

    right = axes.twinx()
    right.spines[["top", "left", "bottom"]].set_visible(False)
    log = _set_fid_range(right, [value for _, value in (*finite_fid, *references)])
    _colour_axis(right, "right", VERMILLION, "FID (log scale)" if log else "FID")
    _plot(right, fid, "FID", VERMILLION, "s", 3)
    best_step, best = min(finite_fid, key=lambda pair: pair[1])
    final_step, final = fid[-1]
    star: dict[str, Any] = {"linestyle": "none", "marker": "*", "markersize": 12, "clip_on": False}
    right.plot([best_step], [best], label="best FID", color=VERMILLION, markeredgecolor="white", zorder=4, **star)
    if best_step == final_step:
        margin = [(f"★ best and final: {best:.2f} at step {_short(best_step)}", best, VERMILLION)]
    else:
        margin = [(f"★ best: {best:.2f} at step {_short(best_step)}", best, VERMILLION)]
        # A final FID that is not finite cannot be drawn, but must be reported.
        height = final if np.isfinite(final) else finite_fid[-1][1]
        margin.append((f"final: {final:.2f}" if np.isfinite(final) else "final: not finite", height, VERMILLION))
    for label, value in references:
        margin.append((f"{label}: {value:.2f}", value, GREY))
        right.axhline(value, color=VERMILLION, alpha=0.75, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1.5)
    ticks, names = 0.44, 0.74  # inches from the axis to the end of its tick labels, and to the names
    inches = figure.get_figwidth()
    start, end = 0.7 / inches, max(0.4, 1 - (names + widest(figure, margin) + 0.1) / inches)
    figure.subplots_adjust(left=start, right=end, bottom=0.13, top=0.85)
    across = inches * (end - start)
    write_margin(right, margin, 0.058, line=1 + ticks / across, text=1 + names / across)
    return figure


def _short(value: float) -> str:
    """20000 → "20k", 37500 → "37.5k"; exact below 10⁹, which only a diverged game exceeds."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if unit <= abs(value) < 1e9:
            return f"{value / unit:.10g}{letter}".replace("-", "−")
    return f"{value:.10g}".replace("-", "−")


def _set_short_ticks(axis: Axis) -> None:
    """Short tick labels instead of a common factor, which would overlap the axis label."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _set_steps(axes: Axes, steps: Sequence[float]) -> None:
    """An axis from 0 to the last step."""
    last = max([*steps, 1.0])
    axes.set_xlim(-0.02 * last, 1.02 * last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=TICK_STEPS))
    _set_short_ticks(axes.xaxis)


def _colour_axis(axes: Axes, side: str, colour: str, label: str) -> None:
    """Put the label above its axis: next to the right axis it would overlap the margin."""
    axes.spines[side].set_color(colour)
    axes.tick_params(axis="y", labelsize=TICK_SIZE, color=colour, labelcolor=colour)
    axes.set_ylabel(label, fontsize=LABEL_SIZE, color=colour, rotation=0, ha="left", va="bottom")
    axes.yaxis.set_label_coords(0.0 if side == "left" else 1.0, 1.025)


def _plot(
    axes: Axes, pairs: Sequence[tuple[float, float]], label: str, colour: str, marker: str, zorder: float
) -> None:
    if pairs:
        steps, values = np.asarray(pairs, dtype=np.float64).T
        style: dict[str, Any] = {"color": colour, "label": label, "zorder": zorder}
        style["linewidth"] = 1.3 if len(pairs) <= 300 else 0.8
        # A last marker may stand on the edge of the range.
        if len(pairs) <= MAX_MARKERS:
            style |= {"marker": marker, "markersize": 3.6, "clip_on": False}
        axes.plot(steps, values, **style)


def _set_linear_range(axes: Axes, values: Sequence[float]) -> None:
    """Show all finite values."""
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=TICK_STEPS))
    _set_short_ticks(axes.yaxis)
    finite = [value for value in values if np.isfinite(value)]
    if finite:
        low, high = min(finite), max(finite)
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
        # If zero is the lowest value, the axis starts there.
        axes.set_ylim(low - margin if low else 0.0, high + margin)


def _set_fid_range(axes: Axes, values: Sequence[float]) -> bool:
    """Show all values; return whether on a log scale."""
    low, high = min(values), max(values)
    if low > 0 and high / low >= LOG_RATIO:
        margin = (high / low) ** 0.06
        axes.set_yscale("log")
        axes.set_ylim(low / margin, high * margin)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        _set_short_ticks(axes.yaxis)
        return True
    _set_linear_range(axes, values)
    return False
