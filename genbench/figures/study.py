"""A study of many trials: what each achieved, and at which values."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from genbench.figures.style import (
    BLACK,
    BLUE,
    GREY,
    TICK_SIZE,
    VERMILLION,
    label_axes,
    new_figure,
    text_width,
    whole_ticks,
)

__all__ = ["study_history"]

SIDE = 2.6  # inches of a chart
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": TICK_SIZE, "labelcolor": BLACK}


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
    figure = new_figure(1.4 + SIDE * (1 + len(chosen)), 3.4, "what the trials achieved", layout="constrained")
    first, *others = np.atleast_1d(figure.subplots(1, 1 + len(chosen), sharey=True))
    best = (np.maximum if higher_is_better else np.minimum).accumulate(values)
    first.step(numbers, best, where="post", color=GREY, linewidth=1.2, label="best so far")
    _points(first, numbers, values, higher_is_better)
    whole_ticks(first.xaxis, numbers)
    label_axes(first, "trial", objective)
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=3, **LEGEND)
    for axes, (key, places) in zip(others, chosen.items(), strict=True):
        if any(isinstance(place, str) for place in places):
            places = list(map(str, places))
            _set_words(axes, sorted(set(places), key=_as_number))
        _points(axes, places, values, higher_is_better)
        if key in logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        label_axes(axes, key, "")
    return figure


def _set_words(axes: Axes, words: Sequence[str]) -> None:
    """Words from left to right, aslant where they would meet."""
    axes.xaxis.update_units(words)
    axes.set_xlim(-0.5, len(words) - 0.5)
    if len(words) * text_width(words, TICK_SIZE) > 0.8 * SIDE:
        axes.tick_params(axis="x", labelrotation=30)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


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
    axes.plot(places, values, "o", color=BLUE, markersize=4, alpha=0.7, label="trial")
    axes.plot([places[best]], [values[best]], "D", color=VERMILLION, markersize=6, label="best trial")
