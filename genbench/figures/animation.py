"""Animated pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from genbench.atomic import replacing

__all__ = ["write_gif"]

PALETTE_FRAMES = 8
NEARLY_WHITE = 248


def write_gif(path: str | Path, figure: Figure, frames: Iterable[float], dpi: float) -> None:
    """Write a looping GIF of a changing figure.

    All frames share one palette without dithering, so that static parts cost no bytes.

    Args:
        path: of the GIF, replaced once the new one is whole.
        figure: in any state.
        frames: an iterator that changes the figure, then yields the seconds to show it for, rounded to hundredths.
        dpi: pixels per inch of the GIF.
    """
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    pictures, durations = [], []
    for seconds in frames:
        canvas.draw()
        pictures.append(np.array(canvas.buffer_rgba())[..., :3])
        durations.append(round(1000 * seconds))
    chosen = np.linspace(0, len(pictures) - 1, min(PALETTE_FRAMES, len(pictures))).round().astype(int)
    # Over the whole range of colours, so that a colour bar of few pixels has as many as a large plain surface.
    palette = Image.fromarray(np.concatenate([pictures[k] for k in chosen])).quantize(
        method=Image.Quantize.MAXCOVERAGE
    )
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    # A palette's colours are means of similar ones; the background must be exactly white.
    colours[colours.min(axis=1) >= NEARLY_WHITE] = 255
    palette.putpalette(colours.ravel().tolist())
    first, *rest = [
        Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures
    ]
    with replacing(Path(path)) as file:
        first.save(file, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0, optimize=False)
