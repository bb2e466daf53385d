"""Where commands print."""

from __future__ import annotations

import sys

from rich.console import Console

__all__ = ["console"]


def console(error: bool = False) -> Console:
    """Standard output, or standard error; a terminal only if it is one.

    rich also takes whatever asks for colours for a terminal (FORCE_COLOR). A Jupyter notebook does, and shows every
    redrawing of a progress bar.
    """
    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, force_terminal=stream.isatty(), highlight=False)
