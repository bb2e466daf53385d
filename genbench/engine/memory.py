"""The memory of this machine, asked for before it is used."""

from __future__ import annotations

import math
import os

from genbench.errors import ConfigError

__all__ = ["check_memory", "physical_memory"]

GIB = 2**30


def check_memory(needed: float, what: str, remedy: str) -> None:
    """Raise ConfigError where `what`, in the plural, needs more bytes than this machine has."""
    if needed > (memory := physical_memory()):
        raise ConfigError(f"{what} need {needed / GIB:.3g} GiB of memory, and there are {memory / GIB:.3g}", remedy)


def physical_memory() -> float:
    """Bytes of this machine; infinite where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return math.inf
