"""A run's directory: what it holds, who may write to it, and how far the run is."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from genbench.errors import ConfigError, RunLocked

__all__ = ["FINISHED", "SCHEMA", "RunDirectory", "to_json"]

SCHEMA = 2
"""Number of the layout of `summary.json`; the first had no number, and no meaning beside its values."""

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
        self.tensorboard = path / "tensorboard"
        self.metrics = path / "metrics.jsonl"
        self._lock = FileLock(path / ".lock", timeout=0)

    def __enter__(self) -> RunDirectory:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be created: {error}", "choose another output_root") from None
        try:
            self._lock.acquire()
        except Timeout:
            raise RunLocked(
                f"{self.path}: another process is training this run\n  wait for it, or change the seed or a setting"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def status(self) -> str | None:
        """running | done | failed | diverged | interrupted, or None before the first start."""
        try:
            return str(json.loads((self.path / "status.json").read_text(encoding="utf-8"))["status"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def set_status(self, status: str, step: int, **details: Any) -> None:
        row = {
            "status": status,
            "step": step,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "pid": os.getpid(),
        }
        _write_atomically(self.path / "status.json", to_json(row | details))

    def write_config(self, config: dict[str, Any]) -> None:
        _write_atomically(self.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))

    def write_summary(self, summary: dict[str, Any]) -> None:
        _write_atomically(self.path / "summary.json", to_json(summary))

    def read_summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        return found


def _write_atomically(path: Path, text: str) -> None:
    """Replace a small text file atomically: a reader sees the old text or the new one."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def to_json(value: Any) -> str:
    """Strict JSON: a number that is not finite becomes null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
