"""The launchers and sweepers of genbench, where Hydra looks for plug-ins.

Hydra imports every module here at every start, so these are but names: what they name is in `genbench.launching`,
which imports PyTorch, and is imported when a sweep begins.
"""

from __future__ import annotations

from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

__all__ = ["Grid", "Here", "Local", "OnRay", "Slurm", "Tuner"]


def _name(kind: Any, name: str) -> Any:
    """A plug-in that, made of the keys of `hydra.launcher` or `hydra.sweeper`, is what `genbench.launching` has."""

    def make(cls: type, **keys: Any) -> Any:
        from genbench import launching

        return getattr(launching, name)(**keys)

    return type(name, (kind,), {"__module__": __name__, "__new__": make, **dict.fromkeys(kind.__abstractmethods__)})


Here, Local = _name(Launcher, "Here"), _name(Launcher, "Local")
OnRay, Slurm = _name(Launcher, "OnRay"), _name(Launcher, "Slurm")
Grid, Tuner = _name(Sweeper, "Grid"), _name(Sweeper, "Tuner")
