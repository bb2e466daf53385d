"""Numbers, durations and verdicts as tables print them."""

from __future__ import annotations

import math

__all__ = ["duration", "number", "signed", "verdict_line"]

MINUS = "−"
SYMBOLS = {"reached": "✓", "missed": "✗", "shortened": "~", "impossible": "‼"}


def number(value: float | None, decimals: int | None = None, digits: int = 3) -> str:
    """A number as tables print it: a true minus, and a fixed number of decimals or of significant digits."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return "not finite"
    if decimals is None and 10**digits - 0.5 <= abs(value) < 1e6:
        text = f"{value:,.0f}"
    elif decimals is None or (value and abs(value) < 0.5 * 10**-decimals) or abs(value) >= 1e6:
        text = f"{value:.{digits}g}"
    else:
        text = f"{value:.{decimals}f}"
    return text.replace("-", MINUS)


def signed(value: float, decimals: int | None) -> str:
    return f"+{number(value, decimals)}" if value > 0 else number(value, decimals)


def duration(seconds: float | None) -> str:
    """14 s, 3.2 min, 2.6 h"""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.3g}\u00a0s"
    return f"{seconds / 60:.3g}\u00a0min" if seconds < 6000 else f"{seconds / 3600:.3g}\u00a0h"


def verdict_line(verdict: str, difference: float | None = None, decimals: int | None = None) -> str:
    """✓ reached (+0.25): a verdict, and by how much the measured value is larger than a published one that it can be
    compared with."""
    if verdict not in SYMBOLS:
        return verdict
    told = f"{SYMBOLS[verdict]} {verdict}"
    return told if difference is None else f"{told} ({signed(difference, decimals)})"
