"""Checkpoints: written whole, and read only by the run that wrote them."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genbench.atomic import replacing
from genbench.errors import GenbenchError

__all__ = ["SCHEMA", "Origin", "Unusable", "load", "newest_first", "save", "set_aside"]

SCHEMA = 2
"""Number of a checkpoint's layout; the first had no number, and did not say whose it was."""


@dataclass(frozen=True)
class Origin:
    """Whose checkpoints they are, and what computes from now on."""

    run: str
    """The run's fingerprint."""

    made_by: dict[str, str | None]
    """Whatever may change between two starts of a run and decides its numbers: code, commit, versions, device."""


class Unusable(Exception):
    """A checkpoint that the run cannot go on from; the message says why, as in "checkpoint 7 … is damaged"."""


def save(directory: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write `step-*.pt`, then drop all but the newest `keep` checkpoints.

    What a killed process left half-written goes, too. Raises OSError, after which the directory is as before.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for part in directory.glob(".*.part"):
        part.unlink()
    path = directory / f"step-{step:09d}.pt"
    content = io.BytesIO()  # torch.save to a file tells a full disk as an error of its own archive format
    torch.save({"schema": SCHEMA} | state, content)
    with replacing(path) as file:
        file.write(content.getbuffer())
    for old in newest_first(directory)[keep:]:
        old.unlink()
    return path


def newest_first(directory: Path) -> list[Path]:
    """The checkpoints in it."""
    return sorted(directory.glob("step-*.pt"), reverse=True)


def load(path: Path, run: str) -> dict[str, Any]:
    """The state of the run with the fingerprint `run` on the CPU, so that it may resume on another device.

    Raises Unusable if it is damaged or of something else, and GenbenchError if another version of genbench wrote it.
    """
    if not _is_whole(path):
        raise Unusable("is damaged")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive may raise anything; so may one that holds more than tensors
        raise Unusable("is damaged") from error
    if not isinstance(state, dict) or not isinstance(state.get("schema"), int):
        raise Unusable("is not a checkpoint of this version of genbench")
    if state["schema"] != SCHEMA:
        raise GenbenchError(
            f"{path} was written by another version of genbench\n"
            "  go on with that version, or delete the run directory to repeat the run"
        )
    if state.get("run") != run:
        raise Unusable("belongs to another run")
    return state


def set_aside(path: Path) -> None:
    """Rename a checkpoint to `*.unusable`, out of the way of the good ones to come."""
    path.replace(path.with_suffix(".unusable"))


def _is_whole(path: Path) -> bool:
    """A checkpoint is a zip archive: every member must match its CRC."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged header may raise anything, such as zlib.error or NotImplementedError
        return False
