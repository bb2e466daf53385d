"""The common style of all pictures.

It is set on the artists themselves, without pyplot or global rcParams, so it has no side effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, Tick
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import ArrayLike

__all__ = [
    "BLACK",
    "BLUE",
    "DPI",
    "GREEN",
    "GREY",
    "LABEL_SIZE",
    "ORANGE",
    "TICK_SIZE",
    "TITLE_SIZE",
    "VERMILLION",
    "divergence_name",
    "label_axes",
    "legend_above",
    "new_figure",
    "text_width",
    "whole_ticks",
    "write_title",
]

# Okabe and Ito, "Color Universal Design" (2008): distinguishable with all common colour vision deficiencies.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
BLACK, GREY = "#222222", "#6E6E6E"

# Symbols that are neither short abbreviations nor plain words.
DIVERGENCES = {
    "squared_hellinger": "squared Hellinger",
    "reverse_kl": "reverse KL",
    "pearson_chi2": "Pearson χ²",
}

TITLE_SIZE, LABEL_SIZE, TICK_SIZE, SMALLEST_SIZE = 11.0, 9.5, 8.5, 5.0  # points
DPI = 150


def divergence_name(symbol: str) -> str:
    """A loss's symbol as pictures show it: abbreviations in capitals, words separated by spaces."""
    return DIVERGENCES.get(symbol) or (symbol.upper() if len(symbol) <= 3 else symbol.replace("_", " "))


def new_figure(width: float, height: float, title: str = "", **options: Any) -> Figure:
    """A white figure of width × height inches on an Agg canvas; `options` go to Figure."""
    figure = _Literal(figsize=(width, height), dpi=DPI, facecolor="white", **options)
    FigureCanvasAgg(figure)
    if title:
        write_title(figure, title)
    return figure


def write_title(figure: Figure, title: str) -> Text:
    """A title a tenth of an inch below the upper edge."""
    # A layout that finds its own places leaves room only for a title without one.
    place: dict[str, Any] = {"y": 1 - 0.1 / figure.get_figheight(), "va": "top"}
    return figure.suptitle(title, fontsize=TITLE_SIZE, color=BLACK, **({} if figure.get_layout_engine() else place))


class _Literal(Figure):
    """A figure that takes words as they are: a name or a source may hold dollar signs, which are no formula, and a
    title may be longer than the figure is wide, so it is written smaller, and without its middle where it would be
    too small to read."""

    def draw(self, renderer: Any) -> None:
        numbers = {text for tick in self.findobj(Tick) for text in (tick.label1, tick.label2)}  # 10² is a formula
        for text in self.findobj(Text):
            if text not in numbers:
                text.set_parse_math(False)
        for text in self.texts:
            # Widths are not proportional to sizes: letters are fitted to pixels.
            while (width := text.get_window_extent(renderer).width) > (room := 0.98 * self.bbox.width):
                size, words = float(text.get_fontsize()), text.get_text()
                if size > SMALLEST_SIZE:
                    text.set_fontsize(max(min(0.99, room / width) * size, SMALLEST_SIZE))
                elif len(words) > 5:
                    text.set_text(_without_middle(words, int(len(words) * room / width)))
                else:
                    break
        super().draw(renderer)


def _without_middle(words: str, count: int) -> str:
    """Shorter by one character at least, and about `count` characters long."""
    half = max(min(count, len(words) - 2) // 2, 1)
    return f"{words[:half].rstrip()}…{words[-half:].lstrip()}"


def text_width(texts: Sequence[str], size: float) -> float:
    """Width of the longest text in inches."""
    literal = (text.replace("$", r"\$") for text in texts)  # no formula
    return max(float(TextPath((0, 0), text, size=size).get_extents().x1) for text in literal) / 72


def whole_ticks(axis: Axis, places: ArrayLike, most: int = 6) -> None:
    """Ticks at whole numbers only, such as epochs or trials; where all places are the same, at this place."""
    found = np.unique(np.asarray(places, dtype=np.float64))
    many = MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    axis.set_major_locator(FixedLocator(found.tolist()) if len(found) == 1 else many)


def legend_above(axes: Axes, right: bool = False, columns: int = 2) -> None:
    """A legend over the upper edge of the axes, where it covers no data."""
    style: dict[str, Any] = {"frameon": False, "fontsize": TICK_SIZE, "labelcolor": BLACK, "handlelength": 1.6}
    place: dict[str, Any] = {"loc": f"lower {'right' if right else 'left'}", "bbox_to_anchor": (float(right), 0.995)}
    axes.legend(ncols=columns, borderpad=0.2, borderaxespad=0.0, **place, **style)


def label_axes(axes: Axes, x: str, y: str, grid: bool = True) -> None:
    """Labels, small ticks and a light grid, without top and right spines."""
    axes.set_xlabel(x, fontsize=LABEL_SIZE, color=BLACK)
    axes.set_ylabel(y, fontsize=LABEL_SIZE, color=BLACK)
    axes.tick_params(labelsize=TICK_SIZE, color=GREY, labelcolor=BLACK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    if grid:
        axes.grid(color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
