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

    def sum(self, name: str, device: torch.device) -> Tensor:
        """Of the values of this name since the last reading; 0 if there were none."""
        return self._sums.get(name, torch.zeros((), device=device))

    def put(self, name: str, total: Tensor, more: int) -> None:
        """Take over a sum that went on from `sum` over `more` values."""
        if more:
            self._sums[name], self._counts[name] = total, self._counts.get(name, 0) + more

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
