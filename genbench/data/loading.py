"""Data sets by their configuration; the newest one stays in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from genbench import registry
from genbench.data.dataset import Dataset
from genbench.engine.device import isolated_rng

__all__ = ["forget", "load", "settle"]

SEED = 2020


def settle(settings: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The settings, in which options that are to tell what files hold tell it. Raises ConfigError and DataError."""
    marks = registry.contents(registry.lookup("dataset", settings["name"]))
    found = {option: mark.find(root, settings) for option, mark in marks.items() if settings[option] is None}
    return {**settings, **found}


def load(settings: Mapping[str, Any], root: Path) -> Dataset:
    """The data set of these settings, on the CPU. Raises ConfigError and DataError.

    It is the same for every run, whatever its seed, and shared: nobody may write to its tensors. The newest one is
    remembered, so that checking a run and training it, or all runs of a sweep, reads its files once.
    """
    return _load(json.dumps(settings, sort_keys=True), root.absolute())


@lru_cache(maxsize=1)
def _load(settings: str, root: Path) -> Dataset:
    with isolated_rng(SEED, torch.device("cpu")):  # for a data set without a generator of its own
        dataset: Dataset = registry.build("dataset", json.loads(settings), root)
    return dataset


forget = _load.cache_clear
