"""Checkpoints, written atomically."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

__all__ = ["load_newest", "save"]


def save(directory: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write `step-*.pt` atomically, then drop all but the newest `keep` checkpoints."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"step-{step:09d}.pt"
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync_directory(directory)
    for old in _newest_first(directory)[keep:]:
        old.unlink()
    return path


def load_newest(directory: Path) -> tuple[dict[str, Any] | None, list[Path]]:
    """The latest intact checkpoint's state on the CPU (None if there is none), and the damaged ones skipped.

    `load_state_dict` copies everything to its place, so a run may resume on another device.
    """
    damaged: list[Path] = []
    for path in _newest_first(directory):
        if _is_whole(path):
            return torch.load(path, map_location="cpu", weights_only=True), damaged
        damaged.append(path)
    return None, damaged


def _newest_first(directory: Path) -> list[Path]:
    return sorted(directory.glob("step-*.pt"), reverse=True)


def _is_whole(path: Path) -> bool:
    """A checkpoint is a zip archive: every member must match its CRC."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged header may raise anything, such as zlib.error or NotImplementedError
        return False


def _sync_directory(directory: Path) -> None:
    """Make a rename durable; not every platform lets a directory be opened."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
