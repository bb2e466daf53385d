"""Curves over training: of one run, or of many with means over seeds and intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from genbench.figures.margin import widest, write_margin
from genbench.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILLION,
    label_axes,
    new_figure,
    whole_ticks,
)

__all__ = ["MAX_CURVES", "Band", "Chart", "overlaid_curves", "stacked_curves", "two_scales"]

COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, "#CC79A7", "#56B4E9")  # Okabe and Ito
STYLES = ("-", (0, (6, 2)), "-", (0, (6, 2)), "-", (0, (6, 2)))
MAX_CURVES = len(COLOURS)
"""Most curves that one picture can distinguish."""

SKIPPED_SHARE = 0.1  # of the steps: earlier values do not affect the range, if they would stretch it
STRETCHED = 1.6  # times as long: in such a range the later values would be hard to tell apart
MIN_POINTS = 5  # with fewer later points, all points set the range
MAX_MARKERS = 30  # points are drawn with markers up to this number
LONGEST_NAME = 30  # characters of a vertical axis's name that stand in one line beside a chart
LONGEST_LABEL = 38  # characters of a line in the margin
CHART = 2.6  # inches from one chart to the next
LABEL_GAP = 0.075  # from one line in the margin to the next, of the height of such a chart
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


Chart = tuple[str, Sequence[Band], Sequence[tuple[str, float]]]
"""Name of the vertical axis, curves, and (label, value) of horizontal lines."""


def overlaid_curves(
    bands: Sequence[Band],
    quantity: str,
    references: Sequence[tuple[str, float]] = (),
    title: str = "",
) -> Figure:
    """One chart, as in `stacked_curves`."""
    return stacked_curves([(quantity, bands, references)], title)


def stacked_curves(charts: Sequence[Chart], title: str = "") -> Figure:
    """Means over seeds with their intervals, charts one below the other over the same steps.

    The right margin lists names and last values. Positive values that span three orders of magnitude or more have a
    logarithmic axis; otherwise the range is that of the last nine tenths of the steps if all of them would stretch it
    more than `STRETCHED` times.

    Args:
        charts: at least one (quantity with its unit, at most `MAX_CURVES` bands, (label, value) of horizontal lines).
        title: of the picture.

    Raises:
        ValueError: for more bands than colours.
    """
    charts = [(quantity, bands, _shown(bands, references)) for quantity, bands, references in charts]
    names = [_margin(bands, references) for _, bands, references in charts]
    stretch = max(1.0, *(LABEL_GAP * len(margin) * _lines(margin) for margin in names))  # so that names have room
    height = 0.9 + CHART * stretch * len(charts)
    figure = new_figure(7.4, height, title)
    right = 1 - min(0.45, (max(widest(figure, margin) for margin in names) + 0.35) / 7.4)
    figure.subplots_adjust(right=right, bottom=0.5 / height, top=1 - 0.4 / height, hspace=0.16)
    columns = figure.subplots(len(charts), 1, sharex=True, squeeze=False)[:, 0]
    for k, (axes, (quantity, bands, references), margin) in enumerate(zip(columns, charts, names, strict=True)):
        label_axes(axes, "training step" if k == len(charts) - 1 else "", textwrap.fill(quantity, LONGEST_NAME))
        _draw_chart(axes, bands, references, margin, LABEL_GAP / stretch)
    _set_steps(columns[-1], [band for _, bands, _ in charts for band in bands])
    figure.align_ylabels(columns)
    figure.subplots_adjust(left=_left(figure))
    return figure


def _left(figure: Figure) -> float:
    """The share of a figure's width that the numbers and names of its vertical axes take."""
    figure.draw_without_rendering()
    taken = [axes.bbox.x0 - box.x0 for axes in figure.axes if (box := axes.yaxis.get_tightbbox()) is not None]
    return float(max(taken) + 0.1 * figure.dpi) / float(figure.bbox.width)


def two_scales(left: Band, right: Band, title: str = "") -> Figure:
    """Two quantities of unlike size over the same training steps, each with an axis of its own in its colour."""
    figure = new_figure(7.4, 3.5, title)
    figure.subplots_adjust(left=0.12, right=0.88, bottom=0.145, top=0.88)
    axes = figure.add_subplot()
    label_axes(axes, "training step", left.label)
    twin = axes.twinx()
    label_axes(twin, "", right.label, grid=False)
    twin.spines["right"].set_visible(True)
    twin.spines["left"].set_visible(False)  # the other one's
    _set_steps(axes, [left, right])
    for one, band, side, colour, style in (
        (axes, left, "left", COLOURS[0], STYLES[0]),
        (twin, right, "right", COLOURS[1], STYLES[1]),
    ):
        _draw(one, band, colour, style)
        _set_range(one, [band], [])
        one.yaxis.label.set_color(colour)
        one.tick_params(axis="y", labelcolor=colour)
        one.spines[side].set_color(colour)
    return figure


def _margin(bands: Sequence[Band], references: Sequence[tuple[str, float]]) -> list[tuple[str, float, str]]:
    """(name with its last value, that value, colour)."""
    if len(bands) > MAX_CURVES:
        raise ValueError(f"{len(bands)} curves, but only {MAX_CURVES} can be told apart")
    names = [(_label(label, value), value, GREY) for label, value in references]
    for band, colour in zip(bands, COLOURS, strict=False):
        finite = band.mean[np.isfinite(band.mean)]
        last = float(finite[-1]) if finite.size else np.nan
        names.append((_label(band.label, last), last, colour))
    return names


def _label(name: str, value: float) -> str:
    return textwrap.fill(f"{name}: {_short(value)}", LONGEST_LABEL)


def _draw_chart(
    axes: Axes,
    bands: Sequence[Band],
    references: Sequence[tuple[str, float]],
    margin: Sequence[tuple[str, float, str]],
    gap: float,
) -> None:
    for band, colour, style in zip(bands, COLOURS, STYLES, strict=False):
        _draw(axes, band, colour, style)
    _set_range(axes, bands, [value for _, value in references if value])
    for _, value in references:
        axes.axhline(value, color=GREY, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1.5)
    bottom, _ = axes.get_ylim()
    ends = [(name, value if np.isfinite(value) else bottom, colour) for name, value, colour in margin]
    more = gap * (_lines(margin) - 1)  # half of it above a label's middle
    write_margin(axes, ends, gap + more, more / 2, 1 - more / 2)


def _lines(margin: Sequence[tuple[str, float, str]]) -> int:
    """Of the longest name."""
    return max((name.count("\n") + 1 for name, _, _ in margin), default=1)


def _draw(axes: Axes, band: Band, colour: str, style: Any) -> None:
    marker = "o" if len(band.steps) <= MAX_MARKERS else ""
    points: dict[str, Any] = {"marker": marker, "markersize": 3.0, "zorder": 3}
    axes.plot(band.steps, band.mean, color=colour, linestyle=style, linewidth=1.5, **points)
    if band.low is not None and band.high is not None:
        axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.2, linewidth=0, zorder=2)


def _set_steps(axes: Axes, bands: Sequence[Band]) -> None:
    """Whole numbers, all of them in thousands if the last one is long."""
    steps = np.concatenate([[], *(band.steps for band in bands)])
    whole_ticks(axes.xaxis, steps)
    unit, name = (1000, "k") if steps.max(initial=0) >= 10_000 else (1, "")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step / unit:g}{name if step else ''}"))


def _finite(bands: Sequence[Band]) -> list[float]:
    parts = [part for band in bands for part in (band.mean, band.low, band.high) if part is not None]
    return [value for part in parts for value in part[np.isfinite(part)].tolist()]


def _is_logarithmic(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) > LOG_RATIO * min(values)


def _shown(bands: Sequence[Band], references: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Without those for which a logarithmic axis has no place."""
    positive = [(label, value) for label, value in references if value > 0]
    logarithmic = _is_logarithmic([*_finite(bands), *(value for _, value in references if value)])
    return positive if logarithmic else list(references)


def _set_range(axes: Axes, bands: Sequence[Band], extra: Sequence[float]) -> None:
    everything = [*extra, *_finite(bands)]
    if not everything:
        return
    if _is_logarithmic(everything):
        axes.set_yscale("log")
        axes.set_ylim(max(min(everything), LOG_FLOOR * max(everything)) / 2, max(everything) * 2)
        return
    values = [*extra]
    for band in bands:
        later = band.steps >= SKIPPED_SHARE * band.steps.max(initial=0.0)
        later |= later.sum() < MIN_POINTS
        cut = (part if part is None else part[later] for part in (band.mean, band.low, band.high))
        values += _finite([Band("", band.steps[later], *cut)])  # type: ignore[arg-type]  # the mean is there
    low, high = min(values), max(values)
    if max(everything) - min(everything) <= STRETCHED * (high - low):
        low, high = min(everything), max(everything)
    axes.ticklabel_format(axis="y", useOffset=False)
    room = 0.06 * (max(high - low, 1e-3 * abs(high)) if high > low else abs(high) or 1.0)
    axes.set_ylim(low - room, high + room)


def _short(value: float) -> str:
    return "not finite" if not np.isfinite(value) else f"{value:.4g}".replace("-", "−")
