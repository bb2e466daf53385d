"""What an image GAN has learned: its divergence beside its FID, and walks through its latent space.

Images come as arrays or CPU tensors [.., 1 or 3, H, W] in [0, 1]; every image pixel is drawn as a whole number
of figure pixels, as in `grids`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from genbench.figures.curves import spread_apart
from genbench.figures.grids import GAP, canvas_figure, checked_images, paired_rows, show_canvas, tile
from genbench.figures.style import (
    BLACK,
    BLUE,
    GREY,
    LABEL_SIZE,
    TICK_SIZE,
    TITLE_SIZE,
    VERMILLION,
    label_axes,
    name_in_margin,
    new_figure,
)

__all__ = ["interpolations", "latent_walk", "metric_and_fid", "perturbations"]

# From this ratio of its ends on, a range of FIDs is drawn on a log scale: FID falls from hundreds within the
# first evaluations, and what happens later is a matter of ten per cent.
LOG_RATIO = 4.0
TICK_STEPS = [1, 2, 2.5, 5, 10]
MARKED = 60  # points, up to which every one gets a marker
TALLEST = 1300  # figure pixels of a picture with many rows


def metric_and_fid(
    metric: Sequence[tuple[float, float]],
    fid: Sequence[tuple[float, float]],
    symbol: str,
    title: str = "",
    references: Sequence[tuple[str, float]] = (),
) -> Figure:
    """The approximated divergence and the Fréchet inception distance over generator steps.

    The divergence belongs to the left axis and FID to the right one, each in its curve's colour. The right
    margin names the best FID with its step, the final FID and every reference. Without FIDs there is neither a
    right axis nor a margin, and references are left out. Values that are not finite leave gaps. The left axis
    contains zero; the right one is logarithmic where its ends are far apart.

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
    # A divergence has a zero, and how far from it the game ends is the point.
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
        # A final FID that is not finite has no place in the picture, but must not be passed over.
        height = final if np.isfinite(final) else finite_fid[-1][1]
        margin.append((f"final: {final:.2f}" if np.isfinite(final) else "final: not finite", height, VERMILLION))
    for label, value in references:
        margin.append((f"{label}: {value:.2f}", value, GREY))
        right.axhline(value, color=VERMILLION, alpha=0.75, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1.5)
    _write_margin(figure, right, margin)
    return figure


def latent_walk(images: ArrayLike, title: str = "", labels: tuple[str, str] | None = None) -> Figure:
    """A straight line through latent space: two framed ends and the steps from one to the other.

    Args:
        images: [N ≥ 2, 1 or 3, H, W] in [0, 1]; image k is generated from (1 − α)·z0 + α·z1, α = k/(N − 1).
        title: of the picture.
        labels: what the two ends show, such as ("a 3", "a 7").

    Raises:
        ValueError: for any other shape.
    """
    array = checked_images(images)
    count, _, height, width = array.shape
    if count < 2:
        raise ValueError(f"a walk has two ends, got shape {array.shape}")
    canvas = tile(array, 1, count, GAP)
    if canvas.shape[-1] == 1:
        canvas = canvas.repeat(3, axis=-1)
    for k in (0, count - 1):
        left = GAP + k * (width + GAP)
        # One image pixel of frame, in the gap around the image.
        framed = canvas[GAP - 1 : GAP + height + 1, left - 1 : left + width + 1]
        image = framed[1:-1, 1:-1].copy()
        framed[:] = to_rgb(BLUE)
        framed[1:-1, 1:-1] = image
    figure, (axes,) = canvas_figure([canvas], title, bottom=0.26, top=0.28 if labels else 0.1)
    show_canvas(axes, canvas)
    alphas = [str(Fraction(k, count - 1)) for k in range(count)]
    _label_columns(axes, width, [f"α = {alphas[0]}", *alphas[1:]], above=False)
    if labels:
        # Flush with the outer edges, so that a long name stays inside the picture.
        last = count * (width + GAP) - 0.5
        for text, x, side in ((labels[0], GAP - 0.5, "left"), (labels[1], last, "right")):
            style: dict[str, Any] = {"fontsize": LABEL_SIZE, "color": BLUE, "ha": side, "va": "bottom"}
            axes.annotate(text, (x, -0.5), (0, 1), textcoords="offset points", **style)
    return figure


def perturbations(
    images: ArrayLike,
    changes: Sequence[float],
    dimensions: Sequence[int],
    offsets: Sequence[float],
    title: str = "",
) -> Figure:
    """What single latent dimensions do: one row each, those that change the image most first.

    Args:
        images: [rows, columns, 1 or 3, H, W] in [0, 1]; images[i, j] is generated from z with offsets[j] added
            to its dimension dimensions[i].
        changes: mean absolute change of the image by each dimension; rows are drawn in falling order of it.
        dimensions: index of each row's dimension.
        offsets: of the columns, from −ε to ε.
        title: of the picture.

    Raises:
        ValueError: for images of any other shape, and where there are not as many changes, dimensions or
            offsets as rows and columns.
    """
    array = _checked_rows(images, "images")
    rows, columns, _, height, width = array.shape
    if (len(changes), len(dimensions), len(offsets)) != (rows, rows, columns):
        raise ValueError(
            f"images have shape {array.shape}, but there are {len(changes)} changes, {len(dimensions)} dimensions "
            f"and {len(offsets)} offsets"
        )
    order = np.argsort(-np.asarray(changes, dtype=np.float64), kind="stable")
    canvas = tile(array[order].reshape(-1, *array.shape[2:]), rows, columns, GAP)
    figure, (axes,) = canvas_figure([canvas], title, left=1.06, top=0.28, tallest=TALLEST)
    show_canvas(axes, canvas)
    signed = [f"{offset:+.3g}".replace("-", "−") if offset else "0" for offset in offsets]
    _label_columns(axes, width, signed, above=True, name="offset")
    centres = [GAP + k * (height + GAP) + height / 2 - 0.5 for k in range(rows)]
    # Three digits of the largest change, as far as there is room.
    largest = max(changes)
    decimals = int(np.clip(2 - np.floor(np.log10(largest)), 2, 4)) if largest > 0 else 2
    _label_rows(axes, centres, [f"z{dimensions[k]}  Δ {changes[k]:.{decimals}f}" for k in order])
    return figure


def interpolations(latent: ArrayLike, pixel: ArrayLike, alphas: Sequence[float], title: str = "") -> Figure:
    """Interpolations between pairs of images: in latent space, and right below in pixel space.

    Args:
        latent: [pairs, columns, 1 or 3, H, W] in [0, 1], generated from (1 − α)·z0 + α·z1.
        pixel: the same shape, (1 − α)·x0 + α·x1 of the two ends' images.
        alphas: α of every column, such as 0, 0.1, …, 1.
        title: of the picture.

    Raises:
        ValueError: for any other shape, and where the two shapes or the number of alphas differ.
    """
    above, below = _checked_rows(latent, "latent"), _checked_rows(pixel, "pixel")
    if above.shape != below.shape:
        raise ValueError(f"latent interpolations have shape {above.shape}, those of pixels {below.shape}")
    pairs, columns, _, _, width = above.shape
    if len(alphas) != columns:
        raise ValueError(f"interpolations have {columns} columns, but there are {len(alphas)} alphas")
    canvas, centres = paired_rows([part[k] for k in range(pairs) for part in (above, below)], columns)
    figure, (axes,) = canvas_figure([canvas], title, left=0.54, top=0.28, tallest=TALLEST)
    show_canvas(axes, canvas)
    _label_columns(axes, width, [f"{alpha:.3g}" for alpha in alphas], above=True, name="α")
    _label_rows(axes, centres, ["latent", "pixels"] * pairs)
    return figure


def _checked_rows(images: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(images, dtype=np.float64)
    if array.ndim != 5 or array.shape[2] not in (1, 3) or not array.size:
        raise ValueError(f"{name} must be [rows, columns, 1 or 3, H, W], got shape {array.shape}")
    return checked_images(array.reshape(-1, *array.shape[2:])).reshape(array.shape)


def _label_columns(axes: Axes, width: int, labels: Sequence[str], above: bool, name: str = "") -> None:
    """Names the columns of a canvas; `name` says, left of the first, what the labels are."""
    axes.set_xticks([GAP + k * (width + GAP) + width / 2 - 0.5 for k in range(len(labels))], labels)
    sides = {"top": above, "labeltop": above, "bottom": not above, "labelbottom": not above}
    axes.tick_params(axis="x", length=0, pad=1.5, labelsize=TICK_SIZE, labelcolor=BLACK, **sides)
    if name:
        style: dict[str, Any] = {"fontsize": TICK_SIZE, "color": GREY, "ha": "right", "va": "bottom"}
        axes.annotate(name, (0, 1), (-4, 1.5), "axes fraction", "offset points", **style)


def _label_rows(axes: Axes, centres: Sequence[float], labels: Sequence[str]) -> None:
    axes.set_yticks(centres, labels)
    axes.tick_params(axis="y", length=0, labelsize=TICK_SIZE, labelcolor=BLACK)


def _short(value: float) -> str:
    """20000 → "20k", 37500 → "37.5k"; no digits are lost below 10⁹, which only a diverged game exceeds."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if unit <= abs(value) < 1e9:
            return f"{value / unit:.10g}{letter}".replace("-", "−")
    return f"{value:.10g}".replace("-", "−")


def _set_short_ticks(axis: Axis) -> None:
    """Instead of a common factor, which matplotlib would write where the axis has its label here."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _set_steps(axes: Axes, steps: Sequence[float]) -> None:
    """From 0 to the last step, however few there are."""
    last = max([*steps, 1.0])
    axes.set_xlim(-0.02 * last, 1.02 * last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=TICK_STEPS))
    _set_short_ticks(axes.xaxis)


def _colour_axis(axes: Axes, side: str, colour: str, label: str) -> None:
    """The label lies above its axis: next to a right axis it would be in the way of the names in the margin."""
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
        if len(pairs) <= MARKED:
            style |= {"marker": marker, "markersize": 3.6, "clip_on": False}
        axes.plot(steps, values, **style)


def _set_linear_range(axes: Axes, values: Sequence[float]) -> None:
    """Shows all finite values."""
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=TICK_STEPS))
    _set_short_ticks(axes.yaxis)
    finite = [value for value in values if np.isfinite(value)]
    if finite:
        low, high = min(finite), max(finite)
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
        # Zero, as the lowest value, is the end of the axis.
        axes.set_ylim(low - margin if low else 0.0, high + margin)


def _set_fid_range(axes: Axes, values: Sequence[float]) -> bool:
    """Shows all values; returns whether on a log scale."""
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


def _write_margin(figure: Figure, axes: Axes, entries: Sequence[tuple[str, float, str]]) -> None:
    """Names positions on the right axis beyond its tick labels, pushed apart where they would overlap.

    The axes end where the longest name has room.
    """
    ordered = sorted(entries, key=lambda entry: entry[1])
    ticks, names = 0.44, 0.74  # inches from the axis to where tick labels end, and to where names begin
    written = [figure.text(0, 0, name, fontsize=TICK_SIZE) for name, _, _ in ordered]
    longest = max(text.get_window_extent().width for text in written) / figure.dpi
    for text in written:
        text.remove()
    inches = figure.get_figwidth()
    left, right = 0.7 / inches, max(0.4, 1 - (names + longest + 0.1) / inches)
    figure.subplots_adjust(left=left, right=right, bottom=0.13, top=0.85)
    across = inches * (right - left)
    places = axes.transAxes.inverted().transform(axes.transData.transform([(0, value) for _, value, _ in ordered]))
    heights = spread_apart(places[:, 1], 0.058)
    heights += max(0.0, -float(heights[0]))
    for (name, value, colour), height in zip(ordered, heights, strict=True):
        name_in_margin(axes, name, value, colour, float(height), 1 + ticks / across, 1 + names / across)
