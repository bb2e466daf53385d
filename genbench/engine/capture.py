"""A whole training step as one CUDA graph: its kernels are launched at once, without Python in between."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CapturedStep"]

Step = Callable[[Tensor], dict[str, Tensor]]

# Libraries choose their algorithms and allocate their workspaces in the first calls, which must not be captured.
WARM_UP = 3


@dataclass
class _Captured:
    graph: torch.cuda.CUDAGraph
    batch: Tensor
    values: dict[str, Tensor]


class CapturedStep:
    """Runs a step eagerly a few times, then captures it and replays the graph.

    There is one graph for each kind of step: `variant` and the batch's shape say which. The eager steps are
    training steps like any other, so a captured run takes the same steps on the same random numbers as an eager one.
    The values returned live in the graph's memory: the next call overwrites them.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._calls: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, _Captured] = {}
        self._stream = torch.cuda.Stream()

    def __call__(self, batch: Tensor, variant: Hashable = None) -> dict[str, Tensor]:
        key = (variant, batch.shape)
        if key not in self._graphs:
            calls = self._calls[key] = self._calls.get(key, 0) + 1
            if calls <= WARM_UP:
                return self._eagerly(batch)
            self._graphs[key] = self._capture(batch)
        captured = self._graphs[key]
        captured.batch.copy_(batch)
        captured.graph.replay()
        return captured.values

    def _eagerly(self, batch: Tensor) -> dict[str, Tensor]:
        """On a side stream, as capturing demands of what goes before it."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            values = self._step(batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        return values

    def _capture(self, batch: Tensor) -> _Captured:
        """Record the step's kernels; none of them runs yet."""
        static = batch.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            values = self._step(static)
        return _Captured(graph, static, values)
