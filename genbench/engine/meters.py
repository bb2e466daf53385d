"""Running means that stay on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["Meters"]


class Meters:
    """Means of named scalars since the last reading; reading is the only wait for the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, values: dict[str, Tensor]) -> None:
        if not self._sums:
            self._sums = {name: value.detach().clone() for name, value in values.items()}
        else:
            for name, value in values.items():
                self._sums[name] += value
        self._count += 1

    def read(self) -> dict[str, float]:
        """The means, in one transfer, and start anew. Empty if nothing was added."""
        if not self._count:
            return {}
        totals = torch.stack([total.double() for total in self._sums.values()]).tolist()
        means = {name: total / self._count for name, total in zip(self._sums, totals, strict=True)}
        self._sums, self._count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "count": self._count}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self._sums = {name: total.to(device) for name, total in state["sums"].items()}
        self._count = state["count"]
