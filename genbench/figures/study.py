"""A study of many trials: what each achieved, and at which values."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from genbench.figures.style import BLUE, GREY, VERMILLION, label_axes, new_figure

__all__ = ["study_history"]

SIDE = 2.6  # inches of a chart


def study_history(
    numbers: NDArray[np.int64],
    values: NDArray[np.float64],
    higher_is_better: bool,
    objective: str,
    chosen: Mapping[str, Sequence[Any]],
    logarithmic: Collection[str] = (),
) -> Figure:
    """Values [T] of an objective over the trials' numbers [T] with the best so far, then over each chosen key.

    `chosen` are a key's values in every trial, numbers or words; axes of the keys in `logarithmic` are logarithmic.
    """
    figure = new_figure(1.4 + SIDE * (1 + len(chosen)), 3.2, "what the trials achieved", layout="constrained")
    first, *others = np.atleast_1d(figure.subplots(1, 1 + len(chosen), sharey=True))
    best = (np.maximum if higher_is_better else np.minimum).accumulate(values)
    first.step(numbers, best, where="post", color=GREY, linewidth=1.2, label="best so far")
    _points(first, numbers, values, higher_is_better)
    first.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_axes(first, "trial", objective)
    first.legend(frameon=False, fontsize=8)
    for axes, (key, places) in zip(others, chosen.items(), strict=True):
        if any(isinstance(place, str) for place in places):
            axes.xaxis.update_units(sorted(set(map(str, places)), key=_as_number))  # in this order from left to right
            places = list(map(str, places))
        _points(axes, places, values, higher_is_better)
        if key in logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        label_axes(axes, key, "")
    return figure


def _as_number(word: str) -> tuple[float, str]:
    """Sorts words that are numbers by their size, and others after them."""
    try:
        return float(word), word
    except ValueError:
        return math.inf, word


def _points(
    axes: Axes, places: Sequence[Any] | NDArray[Any], values: NDArray[np.float64], higher_is_better: bool
) -> None:
    """All trials, and the best of them in another colour."""
    best = int(values.argmax() if higher_is_better else values.argmin())
    axes.plot(places, values, "o", color=BLUE, markersize=4, alpha=0.7)
    axes.plot([places[best]], [values[best]], "o", color=VERMILLION, markersize=6)
