"""Text for terminals: paragraphs and lists of terms, as wide as the terminal, at most 80 columns."""

from __future__ import annotations

import fnmatch
import itertools
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator

__all__ = ["COMMANDS", "WIDEST", "names", "paragraphs", "terms", "width"]

WIDEST = 80
NARROWEST = 40
COMMANDS = 0.55
"""The share of the width that is for commands, which are long."""

ALIGNED = re.compile(r"^    | {3,}", re.MULTILINE)


def width() -> int:
    """Of what is printed: of the terminal, within limits; 80 columns where there is none."""
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns))


def paragraphs(text: str, width: int, indent: str = "  ") -> list[str]:
    """Text whose paragraphs are separated by empty lines; one that is aligned by spaces keeps its lines."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        lines = paragraph.splitlines() if ALIGNED.search(paragraph) else [" ".join(paragraph.split())]
        found += ["", *(part for line in lines for part in _wrapped(line, width, indent))]
    return found[1:]


def terms(rows: Iterable[tuple[str, str]], width: int, indent: str = "  ", share: float = 1 / 3) -> list[str]:
    """Terms with their explanations in a second column; below a term that is longer than this share of the width."""
    rows, widest = list(rows), int(width * share)
    column = len(indent) + max((len(term) for term, _ in rows if len(term) <= widest), default=2) + 2
    found = []
    for term, explanation in rows:
        lines = [part for line in explanation.splitlines() for part in _wrapped(line, width, " " * column)]
        if len(term) <= widest and lines:
            lines[0] = f"{indent}{term}".ljust(column) + lines[0][column:]
        else:
            lines.insert(0, f"{indent}{term}")
        found += lines
    return found


def _wrapped(line: str, width: int, indent: str) -> list[str]:
    """Never within a word, so that a command can be copied."""
    inner = indent + re.match(r" *", line)[0]  # type: ignore[index]
    return textwrap.wrap(
        line.strip(),
        width,
        initial_indent=inner,
        subsequent_indent=inner,
        break_long_words=False,
        break_on_hyphens=False,
    )


def names(chosen: Iterable[str], everything: Iterable[str]) -> str:
    """Names, with a pattern in place of those that it alone stands for: "dirac-*, cifar10-*-small, vae-mnist5k"."""
    left, everything, found = list(chosen), list(everything), []
    selected = set(left)
    while left:
        meant = {pattern: fnmatch.filter(everything, pattern) for pattern in _patterns(left[0])}
        alone = [pattern for pattern, covered in meant.items() if len(covered) > 1 and selected.issuperset(covered)]
        best = max(alone, key=lambda pattern: len(meant[pattern]), default=left[0])
        found.append(best)
        left = [name for name in left if not fnmatch.fnmatchcase(name, best)]
    return ", ".join(found)


def _patterns(name: str) -> Iterator[str]:
    """Those that a name matches, with one or more of its parts left open, but for the first."""
    parts = name.split("-")
    for start, end in itertools.combinations(range(1, len(parts) + 1), 2):
        yield "-".join([*parts[:start], "*", *parts[end:]])
