"""Running means that stay on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genbench.engine.device import double

__all__ = ["Meters"]


class Meters:
    """Means of named scalars since the last reading, each over the calls that supplied it.

    Only `read` waits for the device.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            if name in self._sums:
                self._sums[name] += value
                self._counts[name] += 1
            else:
                self._sums[name], self._counts[name] = value.detach().clone(), 1

    def read(self) -> dict[str, float]:
        """Return the means in one transfer, and reset. Empty if nothing was added."""
        if not self._sums:
            return {}
        totals = double(torch.stack(list(self._sums.values()))).tolist()
        means = {name: total / self._counts[name] for name, total in zip(self._sums, totals, strict=True)}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "counts": self._counts}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self._sums = {name: total.to(device) for name, total in state["sums"].items()}
        self._counts = dict(state["counts"])
