"""The published values of all experiments that the configuration offers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from genbench.catalogue.files import offered
from genbench.config import Reference

__all__ = ["Published", "missing", "published"]


@dataclass(frozen=True)
class Published:
    """An experiment with its published values."""

    experiment: str
    references: tuple[Reference, ...]


def published() -> list[Published]:
    """Of every experiment, plug-ins' included, as its YAML says; a test holds this against Hydra."""
    experiments = offered().experiments.values()
    return [Published(each.name, tuple(each.references)) for each in experiments if each.references]


def missing(everything: Sequence[Published], compared: Collection[tuple[str, str, str]]) -> list[Published]:
    """What was not compared with any measurement; `compared` are (experiment, metric, source) triples."""
    found = []
    for entry in everything:
        left = tuple(r for r in entry.references if (entry.experiment, r.metric, r.label) not in compared)
        found += [replace(entry, references=left)] if left else []
    return found
