"""Where finished runs are sent: one module for each tracker, imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import Protocol

from genbench.errors import ConfigError, optional_package
from genbench.trackers.record import Record, record

__all__ = ["TRACKERS", "Record", "Tracker", "record", "tracker"]

TRACKERS = ("mlflow", "trackio", "wandb")


class Tracker(Protocol):
    """A place that holds runs."""

    def holds(self, record: Record) -> bool:
        """Whether this run is there already, as far as can be known from here."""

    def push(self, record: Record) -> None:
        """Send it whole."""


def tracker(name: str, project: str) -> Tracker:
    """One of TRACKERS. Raises ConfigError for another one, and for one whose package is not installed."""
    if name not in TRACKERS:
        raise ConfigError(f"unknown tracker {name!r}", f"known: {', '.join(TRACKERS)}")
    optional_package(name, name)
    module = importlib.import_module(f"genbench.trackers.to_{name}")
    found: Tracker = module.make(project)
    return found
