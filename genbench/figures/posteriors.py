"""Posteriors: information per latent, and collapse onto the prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from genbench.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    TICK_SIZE,
    VERMILLION,
    label_axes,
    legend_above,
    new_figure,
    whole_ticks,
)

__all__ = ["collapse_panel", "latent_bars"]

FLOOR = 1e-6  # smaller variances are drawn at the lower end of the log scale


def collapse_panel(
    kl: Sequence[tuple[float, float]],
    active_units: Sequence[tuple[float, float]],
    latent_dim: int,
    bounds: Mapping[str, tuple[float, float]],
    title: str = "",
) -> Figure:
    """KL term and active units over training, and the ELBO vs. the log-likelihood at several stages.

    If the posterior collapses, both curves are zero, and there is no gap between bound and likelihood.

    Args:
        kl, active_units: (epoch, value on validation data); may be empty.
        latent_dim: number of latents, the end of the axis of active units.
        bounds: stage → (ELBO, importance-sampled log p(x)) of the same images, in nats per image.
        title: of the picture.
    """
    figure = new_figure(10.0, 3.5, title)
    figure.subplots_adjust(left=0.065, right=0.99, bottom=0.15, top=0.79, wspace=0.34)
    left, middle, right = figure.subplots(1, 3)
    _curve(left, kl, "KL(q(z|x) ‖ p(z)) (nats)", BLUE)
    left.set_ylim(0, 1.08 * max([1.0, *(value for _, value in kl if np.isfinite(value))]))
    _curve(middle, active_units, f"active units of {latent_dim}", GREEN)
    middle.set_ylim(0, 1.04 * latent_dim)
    whole_ticks(middle.yaxis, [0, latent_dim], most=8)
    _gaps(right, bounds)
    return figure


def _curve(axes: Axes, pairs: Sequence[tuple[float, float]], name: str, colour: str) -> None:
    label_axes(axes, "epoch", name)
    if pairs:
        epochs, values = np.asarray(pairs, dtype=np.float64).T
        whole_ticks(axes.xaxis, epochs)
        axes.plot(epochs, values, color=colour, marker="o", markersize=3.2, linewidth=1.5, clip_on=False)


def _gaps(axes: Axes, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Pairs of points, since bars would need a meaningful zero."""
    label_axes(axes, "", "nats per image")
    places = np.arange(len(bounds))
    # A hollow square around a dot, so that both are seen where there is no gap.
    outer: dict[str, Any] = {"marker": "s", "color": VERMILLION, "markersize": 8, "markerfacecolor": "white"}
    inner: dict[str, Any] = {"marker": "o", "color": BLUE, "markersize": 4.5}
    for name, index, style in (("log p(x), importance-sampled", 1, outer), ("ELBO", 0, inner)):
        values = [pair[index] for pair in bounds.values()]
        axes.plot(places, values, label=name, linestyle="none", markeredgewidth=1.4, **style)
    for place, (elbo, log_likelihood) in zip(places, bounds.values(), strict=True):
        axes.plot([place, place], [elbo, log_likelihood], color=GREY, linewidth=1.0, zorder=1)
        gap = f"gap {log_likelihood - elbo:.2f}".replace("-", "−")
        below: dict[str, Any] = {"fontsize": TICK_SIZE, "color": GREY, "ha": "center", "va": "top"}
        axes.annotate(gap, (place, min(elbo, log_likelihood)), (0, -7), textcoords="offset points", **below)
    axes.set_xticks(places, list(bounds))
    axes.set_xlim(-0.6, max(len(bounds), 1) - 0.4)
    axes.margins(y=0.22)
    if bounds:
        legend_above(axes, columns=1)


def latent_bars(variance: ArrayLike, kl: ArrayLike | None, threshold: float, title: str = "") -> Figure:
    """Latents in descending order of Var_x E[z|x], with their mean KL divergence to the prior if known.

    Args:
        variance: [L], of the posterior mean from image to image.
        kl: [L], in nats, or None.
        threshold: variance above which a latent is active.
        title: of the picture.
    """
    heights = np.asarray(variance, dtype=np.float64)
    order = np.argsort(-heights, kind="stable")
    panels = 1 if kl is None else 2
    height = 0.9 + 1.6 * panels
    figure = new_figure(7.2, height, title)
    axes = np.atleast_1d(figure.subplots(panels, 1, sharex=True))
    figure.subplots_adjust(left=0.11, right=0.97, bottom=0.5 / height, top=1 - 0.55 / height, hspace=0.22)
    places = np.arange(1, len(heights) + 1)
    if kl is not None:
        label_axes(axes[0], "", "KL (nats)")
        axes[0].bar(places, np.asarray(kl, dtype=np.float64)[order], color=BLUE, width=0.8)
    last = axes[-1]
    label_axes(last, "latents, from the largest to the smallest Var E[z|x]", "Var E[z|x]")
    last.set_yscale("log")
    bottom = max(FLOOR, min(0.1 * threshold, *heights.clip(min=FLOOR)))
    last.set_ylim(0.7 * bottom, 2 * max(threshold, float(heights.max())))
    last.bar(places, heights[order].clip(min=bottom), color=GREEN, width=0.8)
    last.axhline(threshold, color=VERMILLION, linewidth=1.0, linestyle=(0, (5, 3)))
    active = int((heights > threshold).sum())
    note = f"{active} of {len(heights)} active (above {threshold:g})"
    corner: dict[str, Any] = {"transform": last.transAxes, "ha": "right", "va": "bottom"}
    last.text(1.0, 1.022, note, fontsize=TICK_SIZE, color=BLACK, **corner)  # outside, where it covers no bar
    whole_ticks(last.xaxis, places, most=10)
    last.set_xlim(0.4, len(heights) + 0.6)
    return figure
