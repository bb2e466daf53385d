"""Trajectories of the Dirac-GAN: the critic C(x) = ψ0·x + ψ1 against the generator δ_θ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection
from numpy.typing import ArrayLike, NDArray

from genbench.figures.animation import write_gif
from genbench.figures.style import (
    BLACK,
    GREEN,
    GREY,
    LABEL_SIZE,
    TICK_SIZE,
    VERMILLION,
    new_figure,
    write_title,
)

__all__ = ["Pair", "animate", "pairs_page", "trajectory"]

LONGEST_TITLE = 60  # characters of a line above one of two pictures side by side
COLOURS = colormaps["viridis"]


class Pair(NamedTuple):
    """One game without and with an exponential moving average of the generator.

    title: of the row.
    left, right: [T, 3], (ψ0, ψ1, θ) and (ψ0, ψ1, θ averaged) after every generator step.
    loss: name of the game's metric.
    resting: biases ψ1, from and to, with which ψ0 = θ = 0 is an equilibrium; −∞ and ∞ for any.
    decay: of the average.
    """

    title: str
    left: ArrayLike
    right: ArrayLike
    loss: str
    resting: tuple[float, float]
    decay: float


def trajectory(points: ArrayLike, loss: str, title: str, resting: tuple[float, float], ema: bool) -> Figure:
    """One game as a curve in (ψ0, ψ1, θ), coloured by generator step.

    It also shows start, end, the equilibrium, and the plane θ = 0, where the generator equals the data.

    Args:
        points: [T, 3], (ψ0, ψ1, θ) after every generator step.
        loss: name of the game's metric.
        title: of the picture.
        resting: biases ψ1, from and to, with which ψ0 = θ = 0 is an equilibrium; −∞ and ∞ for any.
        ema: whether θ is its exponential moving average.
    """
    figure, *_ = _game(_finite(points), loss, resting, ema, "end")
    write_title(figure, title)
    return figure


def _game(
    points: NDArray[np.float64], loss: str, resting: tuple[float, float], ema: bool, last: str
) -> tuple[Figure, Line3DCollection, Any]:
    """The picture of one game, its curve, and the mark at the curve's end, named `last`."""
    figure = new_figure(6.2, 5.3)
    axes = _cube(figure, (-0.01, 0.115, 0.84, 0.86), _limit(points, resting), ema)
    _draw_scene(axes, resting, loss)
    curve, end = _draw_path(axes, points, len(points))
    end.set_label(last)
    _draw_legend(figure)
    _draw_colour_bar(figure, (0.865, 0.22, 0.022, 0.56), len(points))
    return figure, curve, end


def pairs_page(rows: Sequence[Pair], title: str = "") -> Figure:
    """Several games, one per row, without and with the generator's moving average.

    Both pictures of a row have the same limits; all share one colour bar of generator steps.

    Args:
        rows: at least one pair.
        title: of the page.
    """
    row_height, header, footer = 4.1, 0.45 if title else 0.1, 0.45
    height = header + row_height * len(rows) + footer
    figure = new_figure(9.4, height, title)
    curves = [(_finite(row.left), _finite(row.right)) for row in rows]
    steps = max(len(array) for both in curves for array in both)
    for k, (row, both) in enumerate(zip(rows, curves, strict=True)):
        base = footer + row_height * (len(rows) - 1 - k)
        limit = max(_limit(array, row.resting) for array in both)
        for side, array in enumerate(both):
            box = (0.005 + 0.435 * side, (base + 0.3) / height, 0.43, (row_height - 0.4) / height)
            axes = _cube(figure, box, limit, ema=bool(side))
            _draw_scene(axes, row.resting, row.loss)
            _draw_path(axes, array, steps)
            told = f"with EMA {row.decay:g} of the generator" if side else "without EMA"
            name = fill(f"{row.title}, {told}", LONGEST_TITLE)
            x, y = box[0] + box[2] / 2, (base + row_height - 0.12) / height
            figure.text(x, y, name, fontsize=LABEL_SIZE, color=BLACK, ha="center", va="top")
    _draw_legend(figure)
    bar = min(0.62 * row_height * len(rows), 6.0)
    middle = footer + row_height * len(rows) / 2
    _draw_colour_bar(figure, (0.905, (middle - bar / 2) / height, 0.014, bar / height), steps)
    return figure


def animate(
    points: ArrayLike,
    path: str | Path,
    loss: str,
    title: str,
    resting: tuple[float, float],
    ema: bool,
    frames: int = 100,
) -> None:
    """Write a GIF in which the trajectory grows.

    Frame k of K shows the first T·(k/K)² steps: a damped game ends early, and with equidistant frames an undamped one
    could seem to stand still, one turn per frame.

    Args:
        points, loss, title, resting, ema: as for `trajectory`.
        path: of the GIF, replaced once the new one is whole.
        frames: number of frames, at most one per step.
    """
    array = _finite(points)
    total = len(array)
    frames = min(frames, total)
    shown = np.maximum(np.round(total * (np.arange(1, frames + 1) / frames) ** 2).astype(int), 1)
    figure, curve, end = _game(array, loss, resting, ema, "now")
    caption = write_title(figure, title)
    segments = _segments(array)

    def drawn() -> Iterator[float]:
        for count in shown:
            curve.set_segments(segments[: max(count - 1, 1)])
            end.set_data_3d(*array[count - 1 : count].T)
            caption.set_text(f"{title}, generator step {count - 1}")
            yield 0.06

    write_gif(path, figure, drawn(), dpi=90)


def _finite(points: ArrayLike) -> NDArray[np.float64]:
    """The trajectory up to the first value that is not finite."""
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or len(array) < 2:
        raise ValueError(f"need a trajectory [T ≥ 2, 3] of (ψ0, ψ1, θ), got shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    return array[: bad[0]] if bad.size else array


def _limit(points: NDArray[np.float64], resting: tuple[float, float]) -> float:
    """Of axes that hold the game and its equilibrium, if that is one point."""
    point = abs(resting[0]) if resting[0] == resting[1] else 0.0
    return 1.08 * max(float(np.abs(points).max()), point, 1e-6)


def _segments(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """[T, 3] → [T − 1, 2, 3], from each point to the next."""
    return np.stack([points[:-1], points[1:]], axis=1)


def _cube(figure: Figure, box: tuple[float, float, float, float], limit: float, ema: bool) -> Axes3D:
    """Axes of equal scale, from −limit to limit, which do not distort rotations."""
    axes: Any = figure.add_axes(box, projection="3d")
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), zlim=(-limit, limit))
    axes.set_box_aspect((1, 1, 1), zoom=1.05)
    tick = 0.75 * limit
    tick -= tick % 10 ** np.floor(np.log10(tick))  # one significant digit, away from the corners
    axes.view_init(elev=22, azim=-62)
    labels = ("critic slope ψ0", "critic bias ψ1", "generator θ, EMA" if ema else "generator θ")
    for axis, label in zip((axes.xaxis, axes.yaxis, axes.zaxis), labels, strict=True):
        axis.set_ticks([-tick, 0, tick], [f"−{tick:g}", "0", f"{tick:g}"])
        axis.set_label_text(label, fontsize=LABEL_SIZE, color=BLACK)
        axis.labelpad = -1
        axis.set_pane_color((1, 1, 1, 0))
        axis.line.set_color(GREY)
        axis._axinfo["grid"].update(color="#E4E4E4", linewidth=0.5)
    axes.tick_params(labelsize=TICK_SIZE, pad=0, color=GREY, labelcolor=BLACK)
    axes.zaxis.set_tick_params(pad=4)
    axes.zaxis.labelpad = 2
    return axes


def _draw_scene(axes: Axes3D, resting: tuple[float, float], loss: str) -> None:
    """The plane θ = 0, where the generator equals the data, and the equilibria."""
    _, limit = axes.get_xlim()
    corners = [(-limit, -limit, 0.0), (limit, -limit, 0.0), (limit, limit, 0.0), (-limit, limit, 0.0)]
    plane = Poly3DCollection([corners], facecolor=GREEN, alpha=0.10, edgecolor="none", label="data: θ = 0")
    axes.add_collection3d(plane, autolim=False)
    marks: dict[str, Any] = {"color": VERMILLION, "zorder": 8}
    low, high = resting
    if low == high:
        name = f"equilibrium of {loss}: {f'ψ1 = {low:g}, others 0' if low else 0}"
        axes.plot([0], [low], [0], linestyle="none", marker="*", markersize=15, label=name, **marks)
    else:
        within = "" if math.isinf(high - low) else f", {low:g} ≤ ψ1 ≤ {high:g}".replace("-", "−")
        name = f"equilibria of {loss}: ψ0 = θ = 0{within}"
        ends = [max(low, -limit), min(high, limit)]
        axes.plot([0, 0], ends, [0, 0], linewidth=1.6, label=name, **marks)


def _draw_path(axes: Axes3D, points: NDArray[np.float64], steps: int) -> tuple[Line3DCollection, Any]:
    """The curve with its two ends; returns the curve and the mark at its end."""
    curve = Line3DCollection(
        _segments(points), cmap=COLOURS, norm=_norm(steps), array=np.arange(len(points) - 1), zorder=5
    )
    # Many overlapping turns need a thinner line.
    curve.set_linewidth(1.3 if len(points) <= 1000 else 0.9)
    axes.add_collection3d(curve, autolim=False)
    # Black and white, in which nothing else is drawn: neither the curve nor the equilibria.
    start: dict[str, Any] = {"marker": "o", "markersize": 7, "color": BLACK, "markeredgecolor": "white"}
    last: dict[str, Any] = {"marker": "D", "markersize": 6, "color": "white", "markeredgecolor": BLACK}
    axes.plot(*points[:1].T, linestyle="none", label="start", zorder=9, markeredgewidth=0.8, **start)
    (end,) = axes.plot(*points[-1:].T, linestyle="none", label="end", zorder=10, markeredgewidth=1.3, **last)
    return curve, end


def _norm(steps: int) -> PowerNorm:
    """Square root of the step: most of a damped game happens in its first few hundred."""
    return PowerNorm(0.5, vmin=0, vmax=max(steps - 1, 1))


def _draw_legend(figure: Figure) -> None:
    """One legend for all panels; panels with different equilibria contribute both."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="lower center",
        ncols=len(entries),
        fontsize=TICK_SIZE,
        frameon=False,
        handletextpad=0.4,
        columnspacing=1.3,
    )


def _draw_colour_bar(figure: Figure, box: tuple[float, float, float, float], steps: int) -> None:
    last = max(steps - 1, 1)
    ticks = [round(last * share) for share in (0, 0.05, 0.2, 0.5, 1)]
    bar = figure.colorbar(ScalarMappable(_norm(steps), COLOURS), cax=figure.add_axes(box), ticks=ticks)
    bar.ax.minorticks_off()
    bar.set_label("generator step", fontsize=LABEL_SIZE, color=BLACK)
    bar.ax.tick_params(labelsize=TICK_SIZE, color=GREY, labelcolor=BLACK)
    bar.outline.set_visible(False)
