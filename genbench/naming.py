"""Names as people write and sort them."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable

__all__ = ["closest", "natural", "nearest", "untaken"]


def natural(text: str) -> list[tuple[int, str]]:
    """Sorts dirac-w1-2 before dirac-w1-10, and k8 before k32."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def closest(word: str, words: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or nothing where no word is near."""
    match = nearest(word, words, 1)
    return f"; did you mean {match[0]!r}?" if match else ""


def nearest(word: str, words: Iterable[str], count: int = 5) -> list[str]:
    """At most so many of the words, the most similar first; none that has little in common."""
    return difflib.get_close_matches(word, list(words), n=count, cutoff=0.5)


def untaken(name: str, taken: set[str]) -> str:
    """`name`, or else the first of name-2, name-3, … that is not among those `taken`; now it is."""
    found = next(new for k in itertools.count(1) if (new := f"{name}-{k}" if k > 1 else name) not in taken)
    taken.add(found)
    return found
