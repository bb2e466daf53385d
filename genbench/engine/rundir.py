"""A run's directory: what it holds, who may write to it, and how far the run is."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, SoftFileLock, Timeout
from omegaconf import OmegaConf

from genbench.atomic import write_text
from genbench.engine.checkpoint import newest_first
from genbench.errors import ConfigError, RunLocked

__all__ = ["EVALUATION_SCHEMA", "FINISHED", "SCHEMA", "RunDirectory", "to_json", "writable"]

SCHEMA = 2
"""Number of the layout of `summary.json`; the first had no number, and no meaning beside its values."""

SHOWN = 100  # characters of a path in a message

EVALUATION_SCHEMA = 1
"""Number of the layout of the files in `evaluations/`."""

WITHOUT_FLOCK = {None, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EIO, errno.EINVAL}
"""Errors with which file systems say that they cannot lock a file; NotImplementedError has no number."""

FINISHED = ("done", "diverged")
"""Statuses that starting the same run again does not change."""


class RunDirectory:
    """`outputs/<experiment>/<run>/`: the same directory means the same run.

    Use as a context manager: inside, this process alone writes to it; RunLocked if another one does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.figures = path / "figures"
        self.samples = path / "samples"
        self.evaluations = path / "evaluations"
        self.metrics = path / "metrics.jsonl"
        self._lock: FileLock | SoftFileLock = FileLock(path / ".lock", timeout=0)

    def __enter__(self) -> RunDirectory:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except (OSError, NotImplementedError) as error:
                if isinstance(error, Timeout) or getattr(error, "errno", None) not in WITHOUT_FLOCK:
                    raise
                # A file that names host and process; one that a dead process of this host left is taken over.
                self._lock = SoftFileLock(self.path / ".lock-file", timeout=0)
                self._lock.acquire()
        except Timeout:
            raise RunLocked(self._locked()) from None
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written to: {error}", "choose another output_root") from None
        return self

    def _locked(self) -> str:
        told, lock = f"{self.path}: another process is training this run", Path(self._lock.lock_file)
        with suppress(OSError, ValueError):  # a lock by flock is an empty file
            pid, host = lock.read_text(encoding="utf-8").split()[:2]
            told += f" (process {pid} on {host}; if there is none, delete {lock})"
        return f"{told}\n  wait for it, or change the seed or a setting"

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return bool(newest_first(self.checkpoints))

    @property
    def status(self) -> str | None:
        """running | done | failed | diverged | interrupted, or None before the first start."""
        status = self.read_status().get("status")
        return None if status is None else str(status)

    def read_status(self) -> dict[str, Any]:
        """What `status.json` says; nothing where there is none, or none that can be read."""
        try:
            found = json.loads((self.path / "status.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def set_status(self, status: str, step: int, **details: Any) -> None:
        row = {
            "status": status,
            "step": step,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "pid": os.getpid(),
        }
        write_text(self.path / "status.json", to_json(row | details))

    def write_config(self, config: dict[str, Any]) -> None:
        write_text(self.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))

    def write_summary(self, summary: dict[str, Any]) -> None:
        write_text(self.path / "summary.json", to_json(summary))

    def read_summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        return found


def to_json(value: Any) -> str:
    """Strict JSON: a number that is not finite becomes null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def writable(directory: Path, below: int = 0, remedy: str = "choose another output_root") -> None:
    """Raise ConfigError unless a directory is there, or can be made, and can be written to. Makes nothing.

    `below` is the length of the longest path within it.
    """
    try:
        directory.joinpath(*["x"] * (below // 2)).exists()  # an error if this is too long for the system
        there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        reason = "" if there.is_dir() else f"{there} is no directory"
        if not reason and not os.access(there, os.W_OK | os.X_OK):
            reason = f"{there} is not writable"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise ConfigError(f"{_shortened(directory)} cannot be written: {reason}", remedy)


def _shortened(path: Path) -> str:
    text = str(path)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
