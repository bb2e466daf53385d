"""Names as people write and sort them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = ["closest", "natural"]


def natural(text: str) -> list[tuple[int, str]]:
    """Sorts dirac-w1-2 before dirac-w1-10, and k8 before k32."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def closest(word: str, words: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or nothing where no word is near."""
    match = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""
