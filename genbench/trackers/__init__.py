"""Where runs are sent, while they train or when they have ended: one module for each tracker, imported when it is
asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol

from genbench.errors import ConfigError, optional_package
from genbench.trackers.record import Heading, Point, Record, heading, record

__all__ = ["TRACKERS", "Heading", "Record", "Stream", "Tracker", "heading", "record", "tracker"]

TRACKERS = ("mlflow", "trackio", "wandb")


class Stream(Protocol):
    """A run that is being sent.

    Attributes:
        goes_on: whether what was sent of it before is there.
    """

    goes_on: bool

    def log(self, points: Sequence[Point]) -> None:
        """What was logged at some steps, which do not fall."""

    def finish(self, record: Record) -> None:
        """Everything that is known at the end only, but for `record.points`; nothing comes after it."""

    def leave(self) -> None:
        """The run was interrupted, to go on another time. What was logged so far arrives."""


class Tracker(Protocol):
    """A place that holds runs."""

    def holds(self, heading: Heading) -> bool:
        """Whether this run is there already, as far as can be known from here."""

    def begin(self, heading: Heading, again: bool) -> Stream:
        """Begin to send a run, or go on with one that was left, if it is there still."""


def tracker(name: str, project: str) -> Tracker:
    """One of TRACKERS. Raises ConfigError for another one, and for one whose package is not installed."""
    if name not in TRACKERS:
        raise ConfigError(f"unknown tracker {name!r}", f"known: {', '.join(TRACKERS)}")
    optional_package(name, name)
    module = importlib.import_module(f"genbench.trackers.to_{name}")
    found: Tracker = module.make(project)
    return found
